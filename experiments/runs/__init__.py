"""What lies in run directories: results, comparison of runs, warm starts."""
