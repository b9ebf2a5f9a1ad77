"""Choosing hyper-parameters: the rule of choice, what it is shown by, and the method's file that the chosen values are written into."""
