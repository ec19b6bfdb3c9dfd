"""Holds the programs that a round is made of. Only this folder imports machine learning
libraries.
"""
