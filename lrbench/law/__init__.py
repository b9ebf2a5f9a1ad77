"""The parts of a world's law that are more than one line: events, directions, forests and copulas."""
