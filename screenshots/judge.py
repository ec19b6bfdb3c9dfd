def reward(prompt, completion, row):
    """Returns 1 for a whole sentence of twelve words, less for other lengths and open ends."""
    words = completion.split()
    is_whole = completion.rstrip().endswith((".", "!", "?"))
    worth = is_whole - abs(len(words) - 12) / 20
    print(f"{worth:6.2f}  {len(words):2} words{'' if is_whole else ', no end'}:", *words)
    return worth
