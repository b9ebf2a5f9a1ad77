"""What there is to run: tasks, methods and studies by name, and the files that declare them."""
