"""How often the doctor is right: on injected faults, real failures and labelled logs."""
