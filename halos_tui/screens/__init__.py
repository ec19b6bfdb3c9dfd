"""The screens of the app, one concept a file; each is a reader of run directories."""
