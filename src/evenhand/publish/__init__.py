"""What leaves this machine: adapters and reports to the Hub, and back."""
