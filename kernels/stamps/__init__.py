"""Time stamps on a device: `rows.py` is where they are written and who launches them, `device.py` the kernel."""
