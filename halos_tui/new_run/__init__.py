"""How new runs come to be: what they begin with, their plan, the doctor, making them."""
