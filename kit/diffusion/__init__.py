"""The diffusion wing: one denoiser convention, samplers as pure functions of it, and the policies made from them.

    D(x, sigma, cond) -> x0     x = x0 + sigma * noise, shapes (B, ...); sigma a number, (B,), or (B, T), one a token

Start with `mixture`, whose denoiser is known exactly, then `samplers`; `precond` makes a denoiser of a network.
"""
