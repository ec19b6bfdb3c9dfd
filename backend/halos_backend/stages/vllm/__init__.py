"""Holds what sampling and scoring with vLLM share: engine arguments, environment, checks,
loading.
"""
