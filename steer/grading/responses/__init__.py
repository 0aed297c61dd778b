"""What a response states: its statements in order, the options it names, and what it says of them."""
