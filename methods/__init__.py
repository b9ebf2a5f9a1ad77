"""The catalogue of methods: one per file, and the file's name is the method's."""
