"""The kernel of :mod:`kvcomm_core.gpu.placing`. To be imported only where Triton is installed."""

import triton.language as tl


def place_segment(  # type: ignore[no-untyped-def]  # Triton reads annotations
    base,
    base_layer,
    base_head,
    base_token,
    out,
    out_layer,
    out_head,
    out_token,
    table,
    weights,
    terms,
    cos,
    cos_layer,
    sin,
    sin_layer,
    heads,
    head_dim,
    tokens,
    pairs,
    start,
    step,
    gap,
    KIND: tl.constexpr,
    SCALED: tl.constexpr,
    ROTATES: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Write ``rotate(base + sum of weight * offset)`` for a block of tokens of one head of one layer.

    Dimensions come in ``pairs``: ``start + step * p`` and the one ``gap`` after it. Each number is read once, summed
    and turned in float32, and written once. Offsets have numbers of the type ``KIND``. ``table`` holds five numbers for
    each term: its address, its strides of layers, heads and tokens, and the address of its scales.
    """
    row = tl.program_id(1)
    layer = (row // heads).to(tl.int64)
    head = (row % heads).to(tl.int64)
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    p = tl.arange(0, BLOCK_P)
    within = (t < tokens)[:, None] & (p < pairs)[None, :]
    first = (start + p * step)[None, :]
    t = t.to(tl.int64)[:, None]
    at = base + layer * base_layer + head * base_head + t * base_token + first
    a = tl.load(at, mask=within, other=0.0).to(tl.float32)
    b = tl.load(at + gap, mask=within, other=0.0).to(tl.float32)
    for index in range(terms):
        entry = table + index * 5
        weight = tl.load(weights + index)
        offset = tl.load(entry).to(tl.pointer_type(KIND))
        there = offset + layer * tl.load(entry + 1) + head * tl.load(entry + 2) + t * tl.load(entry + 3) + first
        x = tl.load(there, mask=within, other=0).to(tl.float32)
        y = tl.load(there + gap, mask=within, other=0).to(tl.float32)
        if SCALED:
            scales = tl.load(entry + 4).to(tl.pointer_type(tl.float32)) + (layer * heads + head) * head_dim + first
            known = (p < pairs)[None, :]
            a += x * (weight * tl.load(scales, mask=known, other=0.0))
            b += y * (weight * tl.load(scales + gap, mask=known, other=0.0))
        else:
            a += x * weight
            b += y * weight
    if ROTATES:
        c = tl.load(cos + layer * cos_layer + start + p * step, mask=p < pairs, other=1.0)[None, :]
        s = tl.load(sin + layer * sin_layer + p, mask=p < pairs, other=0.0)[None, :]
        turned = a * c - b * s
        b = b * c + a * s
        a = turned
    at = out + layer * out_layer + head * out_head + t * out_token + first
    tl.store(at, a.to(out.dtype.element_ty), mask=within)
    tl.store(at + gap, b.to(out.dtype.element_ty), mask=within)
