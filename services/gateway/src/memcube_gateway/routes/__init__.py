"""The doors of the gateway: what each HTTP route takes, does and answers."""
