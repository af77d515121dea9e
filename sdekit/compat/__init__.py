"""Faces for other libraries: their models read here, this library's samplers used there."""
