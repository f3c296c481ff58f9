"""The numbers that stand for quality measures in compiled loops and kernels, and constants of the measures."""

EPSILON = 1e-8  # added to each norm in the authors' code
NOISE_FLOOR = 1e-10  # z: keeps the noise power of a perfect row from being zero

ROW_MEASURES = {"cosim": 0, "mse": 1, "psnr": 2}  # psnr leaves rows without output out
# The layer qualities that are looked up in the retention curves; the others are `methods.choices.DIRECT_QUALITIES`.
LAYER_MEASURES = {
    "cosim_flat": 0,
    "cosim_dim": 1,
    "mse": 2,
    "mse_dim": 2,
    "snr": 3,
    "psnr_flat": 4,
    "psnr_dim": 5,
}
