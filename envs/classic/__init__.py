"""The small worlds of the papers: bandits, tabular MDPs, the gridworld, points in the plane."""
