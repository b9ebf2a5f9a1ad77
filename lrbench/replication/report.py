def write(records, suite, path):
    path.write_text(str(len(records)))
    return "x"
