"""What an object may say: defaults that are filled in and errors by field. Pure."""
