"""The quality measures as numbers, by which compiled loops and kernels take them, and their constants."""

EPSILON = 1e-8  # added to each norm in the authors' code
NOISE_FLOOR = 1e-10  # z: keeps the noise power of a perfect row from being zero

ROW_MEASURES = {"cosim": 0, "mse": 1, "psnr": 2}  # under the last, rows without output do not take part
LAYER_MEASURES = {
    "cosim_flat": 0,
    "cosim_dim": 1,
    "mse": 2,
    "mse_dim": 2,
    "snr": 3,
    "psnr_flat": 4,
    "psnr_dim": 5,
}
