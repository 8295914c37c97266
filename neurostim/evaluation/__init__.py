"""What stimuli are worth, and whom they betray."""
