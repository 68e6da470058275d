"""The model server: the live version over HTTP, followed from release to release."""
