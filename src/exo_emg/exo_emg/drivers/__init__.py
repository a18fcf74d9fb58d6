"""The drivers: one folder per kind of device, each with `driver.py`, `config.yaml` and `README.md`."""
