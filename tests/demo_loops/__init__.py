"""The demo loops do what their docstrings say, and forgemon says what is wrong with them."""
