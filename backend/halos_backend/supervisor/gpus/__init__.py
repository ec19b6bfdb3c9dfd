"""Decides who uses which GPU: reservations of devices, locks on them, and room in their memory."""
