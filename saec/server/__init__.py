"""The model server: serves the live version over HTTP and follows new releases."""
