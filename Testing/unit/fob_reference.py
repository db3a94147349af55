"""The paper's forward pass once more, slowly, from its description alone.

Shares no code with the package: the state dict by name, plain loops, border following along the
cracks between pixels, bilinear sampling by hand. What the tests hold ``CompatibleFoB`` to.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

SIZE, CELLS, WIDTH, POINTS = 256, 64, 512, 10


# --- encoder ----------------------------------------------------------------------------------


def _norm(x, weights, name):
    parts = (weights[f"{name}.{part}"] for part in ("running_mean", "running_var"))
    mean, variance = (part[:, None, None] for part in parts)
    scale, shift = (weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
    return (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift


def _bottleneck(x, weights, name, stride, dilation):
    shortcut = x
    if f"{name}.downsample.0.weight" in weights:
        shortcut = functional.conv2d(x, weights[f"{name}.downsample.0.weight"], stride=stride)
        shortcut = _norm(shortcut, weights, f"{name}.downsample.1")
    x = functional.conv2d(x, weights[f"{name}.conv1.weight"])
    x = _norm(x, weights, f"{name}.bn1").relu()
    x = functional.conv2d(
        x, weights[f"{name}.conv2.weight"], stride=stride, padding=dilation, dilation=dilation
    )
    x = _norm(x, weights, f"{name}.bn2").relu()
    x = functional.conv2d(x, weights[f"{name}.conv3.weight"])
    return (_norm(x, weights, f"{name}.bn3") + shortcut).relu()


def encode(weights, image):
    """[256, 256] → features [512, 64, 64] and the threshold."""
    net = "encoder.backbone"
    x = torch.as_tensor(image)[None, None].repeat(1, 3, 1, 1)
    x = functional.conv2d(x, weights[f"{net}.conv1.weight"], stride=2, padding=3)
    x = functional.max_pool2d(_norm(x, weights, f"{net}.bn1").relu(), 3, 2, 1)
    # Where torchvision trades a stride for dilation, the first block keeps the dilation before.
    stages = ((3, 1, 1, 1), (4, 1, 1, 2), (23, 1, 2, 4), (3, 2, 4, 4))
    for stage, (blocks, stride, first_dilation, dilation) in enumerate(stages, 1):
        for block in range(blocks):
            x = _bottleneck(
                x,
                weights,
                f"{net}.layer{stage}.{block}",
                1 if block else stride,
                dilation if block else first_dilation,
            )
        if stage == 3:
            features = functional.conv2d(x, weights["encoder.reduce1.weight"])[0]
    logits = weights[f"{net}.fc.weight"] @ x[0].mean((1, 2)) + weights[f"{net}.fc.bias"]
    threshold = weights["encoder.reduce1d.weight"] @ logits + weights["encoder.reduce1d.bias"]
    return features, float(threshold)


# --- background points of the support ----------------------------------------------------------


def _dilate(mask, side):
    reach = side // 2
    out = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        out[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    return out


def _parts(region):
    left, parts = {(int(x), int(y)) for y, x in np.argwhere(region)}, []
    for seed in ((int(x), int(y)) for y, x in np.argwhere(region)):
        if seed not in left:
            continue
        left.remove(seed)
        part, todo = {seed}, [seed]
        while todo:
            x, y = todo.pop()
            near = {(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            part |= near
            todo += near
        parts.append((seed, part))
    return parts


def _border(start, part):
    """Border pixels in order, following the cracks with the region on the left hand."""
    at, heading, chain = start, (0, 1), []
    while True:
        dx, dy = heading
        ahead = (at[0] + dx, at[1] + dy)

        # The pixels whose corner is ``ahead``: left and right of the way on, and of the way here.
        def pixel(forward, side, ahead=ahead, dx=dx, dy=dy):
            x = ahead[0] + (forward * dx + side * dy - 1) / 2
            y = ahead[1] + (forward * dy - side * dx - 1) / 2
            return int(x), int(y)

        behind = pixel(-1, 1)
        assert behind in part
        if not chain or chain[-1] != behind:
            chain.append(behind)
        if pixel(1, -1) in part:
            heading = (-dy, dx)
        elif pixel(1, 1) not in part:
            heading = (dy, -dx)
        at = ahead
        if at == start and heading == (0, 1):
            break
    if len(chain) > 1 and chain[-1] == chain[0]:
        chain.pop()
    return chain


def _corners(chain):
    def step(a, b):
        return (b[0] - a[0], b[1] - a[1])

    n = len(chain)
    return [
        chain[i]
        for i in range(n)
        if n == 1 or step(chain[i - 1], chain[i]) != step(chain[i], chain[(i + 1) % n])
    ]


def _area(polygon):
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return abs(sum(a[0] * b[1] - a[1] * b[0] for a, b in pairs)) / 2


def sorted_about_leftmost(points):
    x0, y0 = min(points, key=lambda point: point[0])
    return sorted(points, key=lambda point: np.arctan2(point[1] - y0, point[0] - x0))


def ring_points(mask):
    ring = _dilate(mask, 21) & ~_dilate(mask, 15)
    best, best_area = None, -1.0
    for seed, part in _parts(ring):
        corners = _corners(_border(seed, part))
        if _area(corners) > best_area:
            best, best_area = corners, _area(corners)
    if best is None:
        return [(0, 0)] * POINTS
    lengths = [np.hypot(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(best)]
    points = []
    for at in np.linspace(0, sum(lengths), POINTS):
        index = 0
        while index < len(lengths) - 1 and at > lengths[index]:
            at -= lengths[index]
            index += 1
        share = min(at / lengths[index], 1) if lengths else 0
        a, b = best[index], best[min(index + 1, len(best) - 1)]
        points.append(tuple(round(p + (q - p) * share) for p, q in zip(a, b, strict=True)))
    return sorted_about_leftmost(points)


# --- the pass ----------------------------------------------------------------------------------


def _linear(x, weights, name):
    out = x @ weights[f"{name}.weight"].T
    return out + weights[f"{name}.bias"] if f"{name}.bias" in weights else out


def _mlp(x, weights, name):
    return _linear(_linear(x, weights, f"{name}.0").relu(), weights, f"{name}.2")


def _layer_norm(x, weights, name):
    x = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, correction=0, keepdim=True) + 1e-5)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _attention(x, weights, name, bias=0.0):
    projected = x @ weights[f"{name}.in_proj_weight"].T + weights[f"{name}.in_proj_bias"]
    query, key, value = projected.chunk(3, dim=-1)
    shares = (query @ key.T / WIDTH**0.5 + bias).softmax(-1)
    # Denormal numbers change no result, and multiply a hundred times as slowly.
    shares = functional.threshold(shares, torch.finfo(torch.float32).tiny, 0.0)
    return _linear(shares @ value, weights, f"{name}.out_proj")


def _upsample(x, align_corners=False):
    return functional.interpolate(
        x[None], size=(SIZE, SIZE), mode="bilinear", align_corners=align_corners
    )[0]


def _cosine(features, prototype):
    dots = torch.einsum("chw,c->hw", features, prototype)
    return dots / (features.norm(dim=0) * prototype.norm()).clamp_min(1e-8)


def _background_prototypes(features, points):
    full, prototypes = _upsample(features), []
    for x, y in points:
        heat = torch.zeros(SIZE, SIZE)
        cx, cy = int(x + 0.5), int(y + 0.5)
        for j in range(max(0, cy - 12), min(SIZE, cy + 13)):
            for i in range(max(0, cx - 12), min(SIZE, cx + 13)):
                heat[j, i] = np.exp(-((i - cx) ** 2 + (j - cy) ** 2) / (2 * 4.0**2))
        prototypes.append((full * heat).sum((1, 2)) / (heat.sum() + 1e-5))
    return torch.stack(prototypes)


def _sinusoid():
    table = torch.zeros(POINTS, WIDTH)
    for position in range(POINTS):
        for pair in range(WIDTH // 2):
            angle = position / 1e4 ** (2 * pair / WIDTH)
            table[position, 2 * pair] = np.sin(angle)
            table[position, 2 * pair + 1] = np.cos(angle)
    return table


def _sample(features, x, y):
    """Bilinear at (x, y) in [0, 1] of the corners' centres; nothing outside."""
    x, y = x * (CELLS - 1), y * (CELLS - 1)
    total = torch.zeros(features.shape[0])
    for j in (int(np.floor(y)), int(np.floor(y)) + 1):
        for i in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= i < CELLS and 0 <= j < CELLS:
                total += features[:, j, i] * (1 - abs(x - i)) * (1 - abs(y - j))
    return total


def _refine(weights, features, points, support):
    query = _background_prototypes(features, sorted_about_leftmost(points))
    theta, phi = (_linear(support, weights, f"refine.gcn.W_{part}") for part in ("theta", "phi"))
    alpha = weights["refine.gcn.alpha"].clamp(0, 1)
    links = alpha * (theta @ phi.T / WIDTH**0.5).softmax(-1)
    for i in range(POINTS):
        for j in ((i + 1) % POINTS, (i - 1) % POINTS):
            links[i, j] += 1 - alpha
    links = links / links.sum(1, keepdim=True)
    gate = _mlp(query, weights, "refine.gcn.mlp_mod").sigmoid()
    messages = (links @ (gate * _linear(query, weights, "refine.gcn.W"))).relu()
    query = _layer_norm(query + messages, weights, "refine.norm1")
    attended = _attention(query, weights, "refine.self_attn")
    query = _layer_norm(query + attended, weights, "refine.norm2")
    points = torch.tensor(points, dtype=torch.float32)
    deform = "refine.deform_attn"
    for _ in range(3):
        offsets = _linear(torch.cat([query, messages], 1), weights, f"{deform}.offset_pred")
        scale = _mlp(torch.cat([query, support], 1), weights, f"{deform}.scale_mod").sigmoid() * 2
        mixing = _linear(query, weights, f"{deform}.attn_weight").softmax(-1)
        moved, found = torch.zeros(POINTS, 2), torch.zeros(POINTS, WIDTH)
        for i in range(POINTS):
            for s in range(8):
                position = points[i] + scale[i] * offsets[i, 2 * s : 2 * s + 2]
                moved[i] += mixing[i, s] * position
                found[i] += mixing[i, s] * _sample(features, *position.tolist())
        points, query = moved, _layer_norm(query + found, weights, "refine.norm3")
    return points.numpy()


def foreground_cosine(support, mask, features):
    """Cosine [64, 64] of features to the foreground prototype of the support's."""
    drawn = torch.as_tensor(mask, dtype=torch.float32)
    foreground = (_upsample(support) * drawn).sum((1, 2)) / (drawn.sum() + 1e-5)
    return _cosine(features, foreground)


def foreground_probability(cosine, threshold):
    """The coarse probability, numpy [256, 256]."""
    probability = 1 - torch.sigmoid(0.5 * (-20 * cosine - threshold))
    return _upsample(probability[None], align_corners=True)[0].numpy()


def _foreground(probability):
    above = [(x, y) for y in range(SIZE) for x in range(SIZE) if probability[y, x] > 0.96]
    if not above:
        at = int(probability.argmax())
        return [(at % SIZE, at // SIZE)]
    if len(above) <= 10:
        return above
    return [above[int(at)] for at in np.linspace(0, len(above) - 1, 10)]


def prompts(weights, support, mask, query, refine=False):
    """Background and foreground points from two results of ``encode``."""
    (support, _), (features, threshold) = support, query
    cosine = foreground_cosine(support, mask, features)
    probability = foreground_probability(cosine, threshold)
    background = _background_prototypes(support, ring_points(np.asarray(mask, bool)))

    name = "masked_attention"
    tokens = features * (1 - cosine) + weights[f"{name}.learnable_pos"][0]
    tokens = tokens.reshape(WIDTH, -1).T
    keys = _linear(background + _sinusoid(), weights, f"{name}.matching_head.support_proj")
    gain = _mlp(keys, weights, f"{name}.matching_head.self_update_proj").tanh()
    proposals = _linear(tokens, weights, f"{name}.matching_head.query_proj") @ ((1 + gain) * keys).T
    bias = proposals @ weights[f"{name}.conv.weight"].reshape(POINTS)
    bias = (bias + weights[f"{name}.conv.bias"]).relu()
    attended = _attention(tokens, weights, f"{name}.mha", bias[None])
    tokens = _layer_norm(tokens + attended, weights, f"{name}.norm1")
    tokens = _layer_norm(tokens + _mlp(tokens, weights, f"{name}.ffn"), weights, f"{name}.norm2")

    hidden = tokens @ weights["head.head.0.weight"].reshape(WIDTH, WIDTH).T
    hidden = hidden + weights["head.head.0.bias"]
    hidden = (hidden - hidden.mean(0)) / torch.sqrt(hidden.var(0, correction=0) + 1e-5)
    hidden = (hidden * weights["head.head.1.weight"] + weights["head.head.1.bias"]).relu()
    heat = hidden @ weights["head.head.3.weight"].reshape(POINTS, WIDTH).T
    heat = (heat + weights["head.head.3.bias"]).T.reshape(POINTS, CELLS, CELLS)
    points = []
    for channel in _upsample(heat):
        at = int(channel.flatten().argmax())
        points.append((at % SIZE, at // SIZE) if channel.max() > 0 else (0, 0))
    found = _refine(weights, features, points, background) if refine else np.array(points)
    return found, np.array(_foreground(probability))
