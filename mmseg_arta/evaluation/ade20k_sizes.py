"""The classes of ADE20K by the size of what they name."""

from __future__ import annotations

_SMALL = """
    cushion, pillow, flower, book, towel, light, lamp, box, basket, bag, bottle, plate, glass,
    pot, vase, tray, clock, ball, food, plaything, ashcan, sconce, fan, traffic light, streetlight,
    signboard, trade name, poster, painting, flag, apparel, blanket, case, computer, monitor,
    crt screen, screen, television receiver, bulletin board, microwave, radiator, hood, sink,
    chandelier, stool, sculpture, step, bannister, shower, barrel
"""
_MEDIUM = """
    person, animal, bicycle, minibike, door, screen door, windowpane, table, coffee table, desk,
    chair, armchair, swivel chair, seat, sofa, ottoman, bench, bed, cradle, shelf, cabinet,
    bookcase, wardrobe, chest of drawers, buffet, counter, countertop, kitchen island, mirror, rug,
    curtain, blind, plant, bathtub, toilet, refrigerator, stove, oven, dishwasher, washer,
    fireplace, pool table, arcade machine, bar, booth, column, pole, railing, fence, base, awning,
    canopy, stairs, stairway, escalator, conveyer belt, tank, fountain, car, van, palm
"""
_LARGE = """
    wall, building, house, hovel, skyscraper, tower, tent, grandstand, bridge, pier, stage, sky,
    floor, ceiling, road, sidewalk, path, runway, dirt track, tree, grass, field, earth, land,
    mountain, hill, rock, sand, water, sea, river, lake, waterfall, swimming pool, bus, truck, boat,
    ship, airplane
"""

#: Small: carried by hand or about as large; medium: furniture, people, cars; large: buildings,
#: large vehicles and everything without a shape of its own. The paper sorts the classes by their
#: typical size in the world, and puts regions without shape to the large ones (LRFormer 4.4), but
#: does not print its lists: these are ours.
ADE20K_SIZES = {
    name: tuple(item.strip() for item in text.split(','))
    for name, text in (('small', _SMALL), ('medium', _MEDIUM), ('large', _LARGE))
}
