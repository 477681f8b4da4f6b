"""RNN, GRU and LSTM as ops that have kernels."""
