"""Networks that remember: recurrent, attention, temporal convolution, external and matching memory."""
