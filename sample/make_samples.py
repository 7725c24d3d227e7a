"""Make the two sample clips: a camera passing a landscape, with a melody, and one closing in on cobbles, with speech.

Everything is computed here from fixed seeds, so the clips carry no one's rights and can be made again:

    python sample/make_samples.py [FOLDER]
"""

import argparse
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 320, 240
FRAMES_PER_SECOND = 25
NUM_FRAMES = 78
SECONDS = NUM_FRAMES / FRAMES_PER_SECOND
SUPERSAMPLING = 2  # scenes are painted on a grid this much finer, then averaged down
TILE = 1024  # side of every texture, in texels; textures repeat without a seam
PEAK = 10 ** (-3 / 20)  # -3 dBFS
X264_OPTIONS = {
    "crf": "19",
    "preset": "slow",
    "threads": "1",  # x264's choices depend on their number
    "x264-params": "asm=0",  # with its vector code, the same frames gave another file in every run
}

Array = npt.NDArray[np.float64]
Audio = npt.NDArray[np.float32]
Frame = npt.NDArray[np.uint8]
Colour = tuple[float, float, float]


# Painting


class Canvas(NamedTuple):
    """An image (rows, columns, 3; 0 to 1) to paint on, and x and y (rows, columns) of each of its points, y down."""

    image: Array
    x: Array
    y: Array

    def at(self, x: float, y: float, radians: float = 0.0) -> "Canvas":
        """The same image with the origin at x, y and the axes turned clockwise by `radians`."""
        dx, dy = self.x - x, self.y - y
        along, across = math.cos(radians), math.sin(radians)
        return Canvas(self.image, dx * along + dy * across, dy * along - dx * across)

    def crop(self, wanted: npt.NDArray[np.bool_]) -> "Canvas":
        """The smallest rectangle of the same image that holds all `wanted` points."""
        rows, columns = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
        if rows.size == 0:
            return Canvas(self.image[:0], self.x[:0], self.y[:0])
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Canvas(self.image[part], self.x[part], self.y[part])

    def near(self, reach: float) -> "Canvas":
        """The part of the same image that holds all points within `reach` of the origin."""
        return self.crop(self.x**2 + self.y**2 < reach**2)

    def paint(self, colour: Array | Colour, coverage: Array) -> None:
        """Lay on `colour`, (3,) or (rows, columns, 3), as opaque as `coverage` (rows, columns; 0 to 1) says."""
        self.image[...] += (np.asarray(colour) - self.image) * coverage[..., None]

    def frame(self) -> Frame:
        """The finished frame (HEIGHT, WIDTH, 3)."""
        fine = self.image.reshape(HEIGHT, SUPERSAMPLING, WIDTH, SUPERSAMPLING, 3)
        frame: Frame = (fine.mean(axis=(1, 3)).clip(0, 1) * 255 + 0.5).astype(np.uint8)
        return frame


def blank_canvas() -> Canvas:
    """A black canvas whose x and y are the columns and rows of the finished frame."""
    rows = (np.arange(HEIGHT * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    columns = (np.arange(WIDTH * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return Canvas(np.zeros((*x.shape, 3)), x, y)


def inside(distance: Array) -> Array:
    """Coverage of a shape, given the signed distance to its edge in pixels (negative within)."""
    return (0.5 - distance).clip(0, 1)


def box_distance(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    """Signed distance to a rectangle around the origin with rounded corners, all in pixels."""
    rounding = 0.3 * min(half_width, half_height)
    dx = np.abs(x) - (half_width - rounding)
    dy = np.abs(y) - (half_height - rounding)
    distance: Array = np.hypot(dx.clip(0, None), dy.clip(0, None)) + np.maximum(dx, dy).clip(None, 0) - rounding
    return distance


def tint(colour: Colour, light: Array) -> Array:
    """`colour` under `light` (rows, columns), as (rows, columns, 3)."""
    return np.asarray(colour) * light[..., None]


def mix(first: Colour, second: Colour, share: Array) -> Array:
    """A blend (rows, columns, 3) of two colours; `share` (0 to 1) is the part of the second."""
    return tint(first, 1 - share) + tint(second, share)


# Textures


def fractal_noise(rng: np.random.Generator, cell: int, octaves: int) -> Array:
    """Value noise (TILE, TILE) from 0 to 1: features of `cell` texels, then half as large at half the strength, ..."""
    total = np.zeros((TILE, TILE))
    for octave in range(octaves):
        step = cell >> octave
        lattice = rng.random((TILE // step, TILE // step))
        position = smooth_steps(np.arange(TILE) / step)
        x, y = np.meshgrid(position, position)
        total += sample(lattice, x, y) * 0.5**octave
    noise: Array = (total - total.min()) / (total.max() - total.min())
    return noise


def smooth_steps(position: Array) -> Array:
    """`position` slowed down around whole numbers, which rids interpolated noise of its creases."""
    whole = np.floor(position)
    part = position - whole
    steps: Array = whole + part * part * (3 - 2 * part)
    return steps


def sample(texture: Array, x: Array, y: Array) -> Array:
    """`texture` at the points x, y (in texels), bilinear, repeating in both directions."""
    height, width = texture.shape[:2]
    left, top = np.floor(x), np.floor(y)
    right_share, bottom_share = x - left, y - top
    columns, rows = left.astype(np.intp) % width, top.astype(np.intp) % height
    next_columns, next_rows = (columns + 1) % width, (rows + 1) % height
    if texture.ndim == 3:
        right_share, bottom_share = right_share[..., None], bottom_share[..., None]
    upper = texture[rows, columns] * (1 - right_share) + texture[rows, next_columns] * right_share
    lower = texture[next_rows, columns] * (1 - right_share) + texture[next_rows, next_columns] * right_share
    result: Array = upper * (1 - bottom_share) + lower * bottom_share
    return result


def relief(heights: Array, strength: float) -> Array:
    """Light, 1 on level ground, on a surface of these heights lit from the upper left."""
    slope = heights - np.roll(heights, (3, 3), axis=(0, 1))
    return (1 + strength * slope).clip(0.35, 1.7)


def cobbles(rng: np.random.Generator, stones_across: int) -> Array:
    """A pavement of rounded stones, (TILE, TILE, 3)."""
    nearest, second, stone = stone_distances(rng, stones_across)
    grain = fractal_noise(rng, cell=32, octaves=5)
    speckles = fractal_noise(rng, cell=4, octaves=2)
    gap = ((second - nearest) * stones_across / (0.22 * TILE)).clip(0, 1)
    tones = rng.uniform(0.55, 1.0, stones_across**2)[stone] * (0.55 + 0.75 * grain) * (0.7 + 0.6 * speckles)
    warmth = rng.random(stones_across**2)[stone]
    joint = tint((0.22, 0.19, 0.15), 0.5 + grain)
    stones = mix((0.62, 0.66, 0.74), (0.82, 0.66, 0.52), warmth) * tones[..., None]
    colours = joint + (stones - joint) * (gap * 1.6 - 0.3).clip(0, 1)[..., None]
    lit: Array = colours * relief(np.sqrt(gap) + 0.9 * grain, 1.4)[..., None]
    return lit


def stone_distances(rng: np.random.Generator, stones_across: int) -> tuple[Array, Array, npt.NDArray[np.intp]]:
    """Of every texel: distance to the nearest and the second nearest stone's centre, and the nearest one's number."""
    row, column = np.divmod(np.arange(stones_across**2), stones_across)
    centre_x = (column + 0.5 * (row % 2) + rng.uniform(0.15, 0.85, row.size)) * TILE / stones_across
    centre_y = (row + rng.uniform(0.15, 0.85, row.size)) * TILE / stones_across
    y, x = np.mgrid[0:TILE, 0:TILE]
    nearest, second = np.full((2, TILE, TILE), np.inf)
    stone = np.zeros((TILE, TILE), dtype=np.intp)
    for down, right in np.ndindex(5, 5):  # no stone further than two rows or columns away is the nearest
        near_row, near_column = y * stones_across // TILE + down - 2, x * stones_across // TILE + right - 2
        number = near_row % stones_across * stones_across + near_column % stones_across
        dx = (x - centre_x[number] + TILE / 2) % TILE - TILE / 2
        dy = (y - centre_y[number] + TILE / 2) % TILE - TILE / 2
        distance = np.hypot(dx, dy)
        stone = np.where(distance < nearest, number, stone)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    return nearest, second, stone


# Objects, painted around the origin of a canvas; sizes are in pixels


def paint_shadow(canvas: Canvas, half_width: float, half_height: float) -> None:
    """Darken a soft-edged ellipse."""
    canvas = canvas.near(1.3 * max(half_width, half_height))
    reach = np.hypot(canvas.x / half_width, canvas.y / half_height)
    canvas.paint((0.05, 0.06, 0.05), 0.6 * (1.5 - 1.25 * reach).clip(0, 1))


def paint_ball(canvas: Canvas, radius: float, roll: float, from_above: bool) -> None:
    """A shaded red and cream ball that has rolled `roll` radians towards +x, seen from the side or from above."""
    canvas = canvas.near(radius + 1)
    right, down = canvas.x / radius, canvas.y / radius
    towards = np.sqrt((1 - right**2 - down**2).clip(0, 1))
    spun = (right, towards) if from_above else (down, right)  # the two axes that rolling turns into each other
    panel = np.sin(3 * (np.arctan2(*spun) - roll)) * np.hypot(*spun) * radius / 3
    colours = mix((0.85, 0.1, 0.08), (0.97, 0.93, 0.8), (0.5 + panel).clip(0, 1))
    light = 0.3 + 0.85 * (0.62 * towards - 0.5 * right - 0.6 * down).clip(0, None)
    canvas.paint(colours * light[..., None], inside(np.hypot(canvas.x, canvas.y) - radius))


def paint_wheel(canvas: Canvas, radius: float, roll: float) -> None:
    """A wheel with five bright spokes that has turned by `roll` radians."""
    canvas = canvas.near(radius + 1)
    distance = np.hypot(canvas.x, canvas.y)
    spoke = np.abs(np.sin(2.5 * (np.arctan2(canvas.y, canvas.x) - roll))) * distance / 2.5
    canvas.paint((0.08, 0.08, 0.09), inside(distance - radius))
    canvas.paint((0.75, 0.75, 0.78), inside(np.maximum(distance - 0.62 * radius, spoke - 0.1 * radius)))


class Part(NamedTuple):
    """A rounded rectangle of a vehicle, in lengths of the vehicle."""

    colour: Colour
    x: float
    y: float
    half_width: float
    half_height: float


TRUCK_FROM_THE_SIDE = (  # y is 0 on the road
    Part((0.70, 0.46, 0.22), -0.17, -0.29, 0.32, 0.16),  # load
    Part((0.78, 0.16, 0.12), 0.31, -0.24, 0.13, 0.15),  # cab
    Part((0.62, 0.80, 0.90), 0.34, -0.29, 0.07, 0.06),  # window
    Part((0.14, 0.14, 0.15), 0.00, -0.10, 0.47, 0.025),  # frame
    Part((1.00, 0.90, 0.55), 0.44, -0.16, 0.02, 0.02),  # lamp
)
CAR_FROM_ABOVE = (
    Part((0.10, 0.32, 0.72), 0.00, 0.00, 0.50, 0.23),  # body
    Part((0.08, 0.11, 0.14), 0.00, 0.00, 0.26, 0.20),  # windows
    Part((0.14, 0.40, 0.84), -0.04, 0.00, 0.15, 0.17),  # roof
    Part((0.95, 0.95, 0.90), 0.00, 0.00, 0.48, 0.025),  # stripe
    Part((1.00, 0.95, 0.70), 0.46, -0.16, 0.025, 0.035),  # lamp
    Part((1.00, 0.95, 0.70), 0.46, 0.16, 0.025, 0.035),  # lamp
)


def paint_vehicle(canvas: Canvas, length: float, parts: tuple[Part, ...], grain: Array) -> None:
    """A vehicle that heads for +x, its paint weathered by the texture `grain`."""
    canvas = canvas.near(0.7 * length)
    u, v = canvas.x / length, canvas.y / length
    weathering = 0.7 + 0.6 * sample(grain, u * 120, v * 500)
    for part in parts:
        distance = length * box_distance(u - part.x, v - part.y, part.half_width, part.half_height)
        canvas.paint(tint(part.colour, weathering), inside(distance))


def paint_tree(canvas: Canvas, height: float, leaves: Array) -> None:
    """A tree that stands on the origin, its crown's outline and light taken from the texture `leaves`."""
    canvas = canvas.near(1.2 * height)
    u, v = canvas.x / height, canvas.y / height
    canvas.paint(tint((0.36, 0.25, 0.16), 1 - 8 * u), inside(height * box_distance(u, v + 0.2, 0.045, 0.22)))
    foliage = sample(leaves, u * 150 + 40 * height, v * 150)
    reach = np.hypot(u / 0.34, (v + 0.66) / 0.36)
    light = (0.55 - 0.9 * u - 0.9 * (v + 0.66)).clip(0.2, 1.3) * (0.3 + 1.4 * foliage)
    canvas.paint(tint((0.36, 0.55, 0.2), light), inside((reach - 0.75 - 0.5 * foliage) * 0.3 * height))


def paint_leaf(canvas: Canvas, length: float) -> None:
    """A veined autumn leaf along x."""
    canvas = canvas.near(length / 2 + 1)
    u, v = 2 * canvas.x / length, 2 * canvas.y / length
    vein_distance = np.minimum(np.abs(v), 0.12 * np.abs(np.sin(9 * (u - np.abs(v)))))
    colours = mix((0.88, 0.55, 0.08), (0.55, 0.24, 0.04), inside((vein_distance - 0.02) * length / 2))
    canvas.paint(colours, inside((np.abs(v) - 0.5 * (1 - u**2)) * length / 2))


# Scene 1: the camera passes a landscape. The world is in metres: x to the right, z away from the camera.

FOCAL_LENGTH = 280.0  # pixels
CAMERA_HEIGHT = 2.2  # metres
HORIZON = 112.0  # row of the frame
FIELD_EDGE = HORIZON + 8  # row where the field meets the hills
ROAD_Z, ROAD_WIDTH = 9.1, 3.0  # metres


class Camera(NamedTuple):
    """Where the camera is: its x in metres, and how far it has swung right and down in pixels."""

    x: float
    pan: float
    tilt: float

    def project(self, x: float, z: float) -> tuple[float, float]:
        """Column and row of the frame where the ground at x, z shows."""
        column = WIDTH / 2 - self.pan + FOCAL_LENGTH * (x - self.x) / z
        return column, HORIZON - self.tilt + FOCAL_LENGTH * CAMERA_HEIGHT / z


def landscape_pan() -> Iterator[Frame]:
    """Frames (HEIGHT, WIDTH, 3): a truck drives right and a ball bounces left, past trees, hills and clouds."""
    rng = np.random.default_rng(1)
    broad = fractal_noise(rng, cell=128, octaves=7)
    fine = fractal_noise(rng, cell=16, octaves=4)
    lit = relief(broad, 7.0)
    trees = [(x, rng.uniform(12, 26), rng.uniform(3.2, 5.2)) for x in np.arange(-14, 26, 2.2) + rng.uniform(-1, 1, 19)]
    trees.sort(key=lambda tree: -tree[1])  # the furthest first
    canvas = blank_canvas()
    for index in range(NUM_FRAMES):
        seconds = index / FRAMES_PER_SECOND
        camera = Camera(1.3 * seconds, 14 * seconds + 1.5 * math.sin(3 * seconds), 1.2 * math.sin(4.4 * seconds))
        scenery = canvas.at(-camera.pan, -camera.tilt)
        paint_sky(scenery.crop(scenery.y < FIELD_EDGE + 1), seconds, broad)
        paint_hills(scenery.crop(scenery.y < FIELD_EDGE + 1), camera, broad, lit)
        paint_field(scenery.crop(scenery.y > FIELD_EDGE - 1), camera, broad, fine)
        for x, z, height in trees:
            tree = canvas.at(*camera.project(x, z))
            paint_shadow(tree.at(8, 0), 160 / z, 30 / z)
            paint_tree(tree, FOCAL_LENGTH * height / z, fine)
        paint_passing_truck(canvas, camera, seconds, fine)
        paint_bouncing_ball(canvas, camera, seconds)
        yield canvas.frame()


def paint_sky(canvas: Canvas, seconds: float, noise: Array) -> None:
    """Blue with drifting clouds, paler towards the horizon."""
    depth = (canvas.y / HORIZON).clip(0, 1)
    canvas.image[...] = mix((0.25, 0.47, 0.8), (0.78, 0.86, 0.92), depth)
    clouds = (3.2 * sample(noise, (canvas.x + 5 * seconds) * 0.9, canvas.y * 1.8) - 1.35).clip(0, 1)
    canvas.paint(tint((1.0, 0.98, 0.95), 0.78 + 0.25 * clouds), clouds * (1 - 0.5 * depth))


def paint_hills(canvas: Canvas, camera: Camera, noise: Array, lit: Array) -> None:
    """Three ranges of hills, outlined by `noise` under the light `lit`; the nearer, the greener and the faster."""
    ranges = (  # metres away, height in pixels, colour
        (150.0, 95.0, (0.50, 0.58, 0.70)),
        (70.0, 62.0, (0.40, 0.53, 0.48)),
        (35.0, 32.0, (0.34, 0.48, 0.24)),
    )
    for distance, height, colour in ranges:
        x = canvas.x + camera.x * FOCAL_LENGTH / distance + 3 * distance
        crest = HORIZON + 4 - height * sample(noise, x, np.full_like(x, 5 * distance))
        light = sample(lit, x * 1.7, (canvas.y - crest) * 2.6 + distance)
        canvas.paint(tint(colour, light), inside(crest - canvas.y))


def paint_field(canvas: Canvas, camera: Camera, broad: Array, fine: Array) -> None:
    """Grass from the foot of the hills to the camera, and a dirt road across it."""
    z = FOCAL_LENGTH * CAMERA_HEIGHT / (canvas.y - HORIZON)
    x = (canvas.x - WIDTH / 2) * z / FOCAL_LENGTH + camera.x
    patches = sample(broad, x * 30, z * 30)
    blades = sample(fine, x * 150, z * 70)
    coverage = inside(FIELD_EDGE - canvas.y)
    canvas.paint(mix((0.22, 0.38, 0.1), (0.6, 0.58, 0.24), patches) * (0.45 + 1.1 * blades)[..., None], coverage)
    off_centre = np.abs(z - ROAD_Z)
    beyond_edge = off_centre - ROAD_WIDTH / 2 + 0.9 * (patches - 0.5)
    ruts = 1 - 0.25 * np.exp(-(((off_centre - 0.55) / 0.2) ** 2))
    dirt = tint((0.66, 0.53, 0.38), (0.6 + 0.75 * blades) * ruts)
    canvas.paint(dirt, (0.5 - 4 * beyond_edge).clip(0, 1) * coverage)


def paint_passing_truck(canvas: Canvas, camera: Camera, seconds: float, grain: Array) -> None:
    """A truck of 3.4 m that overtakes the camera on the road, rocking on its springs."""
    driven = 3.6 * seconds  # metres
    length, radius = FOCAL_LENGTH * 3.4 / ROAD_Z, FOCAL_LENGTH * 0.3 / ROAD_Z
    truck = canvas.at(*camera.project(driven - 4.2, ROAD_Z))
    paint_shadow(truck.at(4, 0), 0.58 * length, 0.07 * length)
    paint_vehicle(truck.at(0, -0.8 * math.sin(9 * seconds)), length, TRUCK_FROM_THE_SIDE, grain)
    for axle in (-0.32, 0.3):
        paint_wheel(truck.at(axle * length, -radius), radius, driven / 0.3)


def paint_bouncing_ball(canvas: Canvas, camera: Camera, seconds: float) -> None:
    """A ball of 0.7 m that bounces every 0.8 s, in front of the road and towards the left."""
    z = 5.6
    pixels_per_metre = FOCAL_LENGTH / z
    bounce = seconds / 0.8 % 1
    ball = canvas.at(*camera.project(5.2 - 1.7 * seconds, z))
    paint_shadow(ball, 0.45 * pixels_per_metre, 0.12 * pixels_per_metre)
    lift = (0.35 + 4.2 * bounce * (1 - bounce)) * pixels_per_metre
    paint_ball(ball.at(0, -lift), 0.35 * pixels_per_metre, -4 * seconds, from_above=False)


# Scene 2: the camera sinks towards a pavement. Positions are texels of the pavement, from the picture's centre.


def cobbles_zoom() -> Iterator[Frame]:
    """Frames (HEIGHT, WIDTH, 3): a turning zoom on cobbles that a car, a ball and a leaf cross at their own speeds."""
    rng = np.random.default_rng(2)
    pavement = cobbles(rng, stones_across=16)
    broad = fractal_noise(rng, cell=256, octaves=3)
    fine = fractal_noise(rng, cell=16, octaves=4)
    canvas = blank_canvas()
    for index in range(NUM_FRAMES):
        seconds = index / FRAMES_PER_SECOND
        turned = canvas.at(WIDTH / 2, HEIGHT / 2, 0.25 * seconds / SECONDS - 0.1)
        texels_per_pixel = 1.7 * 0.5 ** (seconds / SECONDS)
        ground = Canvas(turned.image, turned.x * texels_per_pixel, turned.y * texels_per_pixel)
        sunlight = (0.62 + 0.75 * sample(broad, ground.x - 60 * seconds, ground.y - 25 * seconds)).clip(0, 1.2)
        ground.image[...] = sample(pavement, ground.x + 300, ground.y + 410) * sunlight[..., None]
        paint_weaving_car(ground, seconds, fine)
        paint_spinning_leaf(ground, seconds)
        paint_rolling_ball(ground, seconds)
        yield canvas.frame()


def paint_weaving_car(ground: Canvas, seconds: float, grain: Array) -> None:
    """A toy car that drives through the picture's upper half, from left to right."""
    across, sway = 130 * seconds - 200, 14 * math.sin(2.5 * seconds)
    heading = math.atan2(14 * 2.5 * math.cos(2.5 * seconds), 130)
    paint_shadow(ground.at(across + 8, sway - 50, heading), 92, 48)
    paint_vehicle(ground.at(across, sway - 62, heading), 130, CAR_FROM_ABOVE, grain)


def paint_spinning_leaf(ground: Canvas, seconds: float) -> None:
    """A leaf that drifts upwards, spinning and swaying."""
    x, y = -70 - 18 * math.sin(3 * seconds), 120 - 45 * seconds
    radians = 1.3 * seconds + 0.5
    paint_shadow(ground.at(x + 4, y + 6, radians), 34, 16)
    paint_leaf(ground.at(x, y, radians), 62)


def paint_rolling_ball(ground: Canvas, seconds: float) -> None:
    """A ball that rolls from the right to the lower left, twice as fast as the car."""
    radius, x, y = 30.0, 330 - 250 * seconds, 10 + 35 * seconds
    paint_shadow(ground.at(x + 10, y + 14), 34, 34)
    paint_ball(ground.at(x, y, -0.14), radius, (x - 330) / radius, from_above=True)


# Sounds


def instants(seconds: float, rate_hz: int) -> Array:
    """The time of every sample, in seconds."""
    return np.arange(round(seconds * rate_hz)) / rate_hz


def to_peak(sound: Array) -> Audio:
    """`sound`, scaled to a peak of -3 dBFS."""
    scaled: Audio = (sound * (PEAK / np.abs(sound).max())).astype(np.float32)
    return scaled


class Note(NamedTuple):
    """When a note starts, how long it lasts and its number in MIDI (69 is A4, 440 Hz)."""

    start_seconds: float
    length_seconds: float
    pitch: int


LEAD = tuple(Note(0.05 + 0.38 * beat, 0.36, pitch) for beat, pitch in enumerate((72, 76, 79, 81, 79, 76, 74, 72)))
BASS = tuple(Note(0.05 + 0.76 * beat, 0.74, pitch) for beat, pitch in enumerate((48, 53, 55, 48)))


def melody(seconds: float, rate_hz: int) -> Audio:
    """Audio (2, samples): a lead to the left, a bass to the right."""
    sound = np.zeros((2, round(seconds * rate_hz)))
    for voice, pan in ((LEAD, 0.3), (BASS, 0.75)):  # pan: 0 is left, 1 is right; the two gains keep the power
        gains = np.array([[math.cos(pan * math.pi / 2)], [math.sin(pan * math.pi / 2)]])
        for note in voice:
            start = round(note.start_seconds * rate_hz)
            tone = harmonic_tone(440 * 2 ** ((note.pitch - 69) / 12), note.length_seconds, rate_hz)
            sound[:, start : start + len(tone)] += gains * tone
    return to_peak(sound)


def harmonic_tone(frequency_hz: float, seconds: float, rate_hz: int) -> Array:
    """A plucked tone (samples,) of eight harmonics, the higher the sooner gone, with attack, decay and release."""
    t = instants(seconds, rate_hz)
    tone = np.zeros_like(t)
    for harmonic in range(1, 9):
        fading = np.exp(-0.9 * harmonic * t) / harmonic**1.3
        tone += fading * np.sin(2 * math.pi * harmonic * frequency_hz * t)
    envelope: Array = np.interp(t, [0, 0.012, 0.08, seconds - 0.1, seconds], [0, 1, 0.75, 0.6, 0])
    return tone * envelope


class Syllable(NamedTuple):
    """A consonant's hiss at `start_seconds`, then a vowel."""

    start_seconds: float
    hiss_seconds: float
    hiss_hz: float
    vowel: str
    vowel_seconds: float

    @property
    def vowel_start_seconds(self) -> float:
        return self.start_seconds + self.hiss_seconds


FORMANTS_HZ = {  # men's averages in Peterson and Barney, "Control methods used in a study of the vowels", 1952
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}
FOURTH_FORMANT_HZ = 3500
SYLLABLES = (
    Syllable(0.06, 0.10, 5500, "a", 0.20),
    Syllable(0.40, 0.03, 3600, "i", 0.16),
    Syllable(0.61, 0.04, 1800, "o", 0.24),
    Syllable(0.98, 0.09, 2600, "u", 0.18),
    Syllable(1.29, 0.03, 3600, "e", 0.15),
    Syllable(1.62, 0.11, 5500, "i", 0.17),
    Syllable(1.93, 0.04, 1800, "a", 0.25),
    Syllable(2.28, 0.03, 3600, "e", 0.14),
    Syllable(2.50, 0.10, 2600, "o", 0.40),
)


def speech(seconds: float, rate_hz: int) -> Audio:
    """Audio (1, samples): nine syllables of a man's voice, in two phrases whose pitch falls."""
    t = instants(seconds, rate_hz)
    voiced, hiss = np.zeros_like(t), np.zeros_like(t)
    noise = np.random.default_rng(3).standard_normal(len(t))
    for syllable in SYLLABLES:
        voiced += swell(t, syllable.vowel_start_seconds, syllable.vowel_seconds)
        burst = noise * swell(t, syllable.start_seconds, syllable.hiss_seconds + 0.02)
        hiss += resonate(burst, np.full_like(t, syllable.hiss_hz), 1200, rate_hz)
    voice = glottal_pulses(pitch_contour(t), rate_hz) * voiced + 0.01 * noise * voiced
    for formant, bandwidth_hz in enumerate((80, 100, 140)):
        voice = resonate(voice, formant_track(t, formant), bandwidth_hz, rate_hz)
    voice = resonate(voice, np.full_like(t, FOURTH_FORMANT_HZ), 250, rate_hz)
    return to_peak(voice / np.abs(voice).max() + 0.3 * hiss / np.abs(hiss).max())[None]


def swell(t: Array, start: float, length: float) -> Array:
    """A loudness that rises fast and falls slowly, from 0 to 1 to 0 over `length` seconds."""
    ramp = np.interp(t, [start, start + 0.2 * length, start + 0.55 * length, start + length], [0, 1, 0.85, 0])
    return np.sin(ramp * math.pi / 2) ** 2


def pitch_contour(t: Array) -> Array:
    """The voice's pitch in Hz."""
    contour = np.interp(t, [0, 0.2, 0.7, 1.4, 1.5, 1.8, 2.2, 3.1], [125, 150, 138, 104, 130, 158, 132, 88])
    return contour * (1 + 0.015 * np.sin(2 * math.pi * 5.2 * t))


def glottal_pulses(pitch_hz: Array, rate_hz: int) -> Array:
    """The slope, per period, of the air flow through vocal folds that are open for six tenths of every period."""
    phase = np.cumsum(pitch_hz) / rate_hz % 1
    flow = np.where(phase < 0.6, phase**2 * (0.6 - phase), 0)
    slope: Array = np.diff(flow, prepend=0.0) * rate_hz / pitch_hz
    return slope


def formant_track(t: Array, formant: int) -> Array:
    """A formant's frequency in Hz, steady in the middle of each vowel and gliding between them."""
    times, frequencies = [], []
    for syllable in SYLLABLES:
        times += [syllable.vowel_start_seconds + share * syllable.vowel_seconds for share in (0.3, 0.7)]
        frequencies += 2 * [FORMANTS_HZ[syllable.vowel][formant]]
    return np.interp(t, times, frequencies)


def resonate(sound: Array, frequency_hz: Array, bandwidth_hz: float, rate_hz: int) -> Array:
    """`sound` through a two-pole resonator of gain 1 at 0 Hz whose frequency may change with every sample."""
    radius = math.exp(-math.pi * bandwidth_hz / rate_hz)
    feedback = 2 * radius * np.cos(2 * math.pi * frequency_hz / rate_hz)
    gain = 1 - feedback + radius**2
    result = np.zeros_like(sound)
    last = before = 0.0
    for index, (drive, back) in enumerate(zip((gain * sound).tolist(), feedback.tolist(), strict=True)):
        last, before = drive + back * last - radius**2 * before, last
        result[index] = last
    return result


# Clips


def write_clip(path: Path, frames: Iterator[Frame], sound: Audio, rate_hz: int) -> None:
    """An .mp4 at `path` of frames (HEIGHT, WIDTH, 3) in H.264 and `sound` (channels, samples; 1 or 2) in AAC."""
    unfinished = path.with_name(f".{path.name}.part")
    with av.open(str(unfinished), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        picture = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=X264_OPTIONS)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        layout = "mono" if len(sound) == 1 else "stereo"
        track = container.add_stream("aac", rate=rate_hz, layout=layout, bit_rate=64_000 * len(sound))
        for frame in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode())
        samples = av.AudioFrame.from_ndarray(sound, format="fltp", layout=layout)
        samples.sample_rate, samples.pts, samples.time_base = rate_hz, 0, Fraction(1, rate_hz)
        container.mux(track.encode(samples))
        container.mux(track.encode())
    with unfinished.open("rb") as written:
        os.fsync(written.fileno())
    unfinished.replace(path)


def make_samples(folder: Path) -> None:
    """Write both clips into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_clip(folder / "landscape_pan_melody.mp4", landscape_pan(), melody(SECONDS, 44_100), 44_100)
    write_clip(folder / "cobbles_zoom_speech.mp4", cobbles_zoom(), speech(SECONDS, 48_000), 48_000)


def main() -> None:
    """Read the command line and make the clips."""
    parser = argparse.ArgumentParser(description="Make the two sample clips.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent, help="default: %(default)s")
    make_samples(parser.parse_args().folder)


if __name__ == "__main__":
    main()
