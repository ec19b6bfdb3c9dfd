"""This folder shows logs of any size: it finds them, pages them, searches them."""
