"""The diffusion wing: one denoiser convention, samplers as pure functions of it, and the policies made from them.

    D(x, sigma, cond) -> x0     x = x0 + sigma * noise, shapes (B, ...); sigma a number, (B,), or (B, T), one a token

    core       mixture (an exact denoiser), schedules, samplers, guidance; precond makes a denoiser of a network
    policies   beso with goals, policy (Diffusion Policy), flow_policy; chunks is how they act, serving how they ship
    data       synther draws rows for a replay buffer
    shared     nets, windows, fit

Start with `mixture`, whose denoiser is known exactly, then `samplers`.
"""
