"""The method. Letters and conventions used everywhere below:

B  data points (batch)          L  draws of lambda for one data point
D  positions (pixels, tokens)   S  states of one position
N  points per data point, or any flat batch        T  times
P  sites: pairs (data point, position), the only places where laws are read

t in [0, 1]: t = 0 is data, t = 1 is the prior; s < t.
x_0, x_t, x_s: states of the chain, integers (.., D).
lam: lambda, uniform on [0, 1]; always an argument, never drawn inside a network.
log_p: normalised log-probabilities over S; "logits" are not normalised.
"""
