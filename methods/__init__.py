"""The catalogue of methods: one a file, and the file's name is the method's."""
