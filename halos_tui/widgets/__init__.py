"""This folder has what two screens share: widgets that draw plain data and read no file."""
