"""This folder shows metrics of runs as series over each other: it reads, draws and exports them."""
