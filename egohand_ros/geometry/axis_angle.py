"""Rotation vectors (axis times angle, rad) in torch, with gradients that stay finite at no and at half a turn.

rotations.py has them in NumPy; networks and MANO need them differentiable.
"""

import torch

_SMALL = 1e-4


def axis_angle_from_matrix(matrix: torch.Tensor) -> torch.Tensor:
    """(..., 3, 3) -> (..., 3) rad, at most half a turn."""
    quaternion = _quaternion(matrix)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    real, imaginary = quaternion[..., :1], quaternion[..., 1:]
    square = (imaginary * imaginary).sum(-1, keepdim=True)
    small = square < _SMALL**2
    length = torch.where(small, 1.0, square).sqrt()
    # Near no turn, angle / sin(angle / 2) is 2 to within _SMALL squared.
    factor = torch.where(small, 2.0 / real.clamp(min=0.5), 2.0 * torch.atan2(length, real) / length)
    return imaginary * factor


def matrix_from_axis_angle(vector: torch.Tensor) -> torch.Tensor:
    """(..., 3) rad -> (..., 3, 3), by Rodrigues' formula."""
    square = (vector * vector).sum(-1)[..., None, None]
    small = square < _SMALL**2
    angle = torch.where(small, 1.0, square).sqrt()
    sine = torch.where(small, 1.0 - square / 6.0, angle.sin() / angle)
    cosine = torch.where(small, 0.5 - square / 24.0, (1.0 - angle.cos()) / (angle * angle))
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    return torch.eye(3, dtype=vector.dtype, device=vector.device) + sine * skew + cosine * (skew @ skew)


def _quaternion(matrix: torch.Tensor) -> torch.Tensor:
    """(..., 3, 3) -> (..., 4) wxyz, worked out from its largest element, which is at least a half."""
    m = {(i, j): matrix[..., i, j] for i in range(3) for j in range(3)}
    squares = torch.stack(  # four times the square of each element
        [1 + m[0, 0] + m[1, 1] + m[2, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2],
         1 - m[0, 0] + m[1, 1] - m[2, 2], 1 - m[0, 0] - m[1, 1] + m[2, 2]], dim=-1,
    )  # fmt: skip
    w, x, y, z = squares.unbind(-1)
    wx, wy, wz = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    xy, xz, yz = m[1, 0] + m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1]
    # Row i is the quaternion times four times its element i.
    rows = torch.stack(
        [torch.stack(row, -1) for row in ((w, wx, wy, wz), (wx, x, xy, xz), (wy, xy, y, yz), (wz, xz, yz, z))], -2
    )
    largest = squares.argmax(dim=-1, keepdim=True)
    row = rows.gather(-2, largest[..., None].expand(*largest.shape, 4))[..., 0, :]
    return row / (2.0 * squares.gather(-1, largest).clamp(min=1e-8).sqrt())
