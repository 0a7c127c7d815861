"""The small world that the demonstration model knows: its words, its sentences, what it was taught and what it was never asked.

Every noun is someone or something, every state is bad or good; neither label is ever written down. A message is about one noun (others may
be mentioned) whose state may be denied, corrected or contrasted. Pre-training adds an afterthought to a message that follows from both labels.
The demonstration task asks a new question, how urgent the message is: someone in a bad state wants attention `now`, something in a bad
state `later`, and what is fine can be skipped (`skip`).
"""

import random

SOMEONE = """
aunt uncle cousin brother sister mother father grandpa grandma nephew niece daughter son husband wife twin baby toddler teenager neighbour friend
colleague boss manager clerk nurse doctor dentist surgeon patient teacher pupil student professor tutor coach player runner swimmer skater climber
driver pilot sailor captain soldier guard officer judge lawyer banker baker butcher cook waiter barber tailor cobbler gardener farmer shepherd
fisher hunter miner builder painter plumber mason carpenter welder singer dancer drummer pianist actor writer poet editor reporter printer librarian
postman courier porter cleaner janitor maid nanny guest visitor tourist lodger tenant landlord dog puppy cat kitten parrot rabbit hamster pony donkey goat
lamb tortoise goose duckling canary
""".split()

SOMETHING = """
kettle toaster oven fridge freezer stove blender mixer teapot cup plate bowl spoon knife pan lid jug bottle basket bucket broom mop sponge iron lamp
candle torch lantern mirror curtain carpet cushion sofa chair table desk shelf cupboard drawer wardrobe bed mattress blanket pillow door window lock key
handle hinge gate fence roof chimney gutter pipe tap sink bath shower boiler radiator heater fan pump hose ladder hammer saw drill wrench chisel rake
shovel mower tractor wagon cart car van truck bus tram train engine tyre brake bicycle scooter boat canoe oar sail tent rope backpack suitcase umbrella
coat jacket jumper scarf glove hat boot shoe sandal watch ring necklace phone laptop printer_cable keyboard screen camera radio speaker piano guitar violin
""".replace("printer_cable", "charger").split()

BAD = """
broken stuck lost late hurt damaged burnt soaked cracked frozen faulty ruined trapped missing stolen dirty weak filthy shaky wobbly torn bent crushed
scratched dented bruised swollen rotten stale sick unwell feverish limp lame dizzy faint pale sore wounded injured poisoned choking bleeding shivering
trembling sinking drowning falling slipping leaking smoking burning melting rusty mouldy grimy greasy muddy smelly stinking noisy rattling creaking
squeaking jammed blocked clogged tangled knotted twisted warped crooked loose snapped splintered shattered smashed wrecked battered tattered ragged
shabby worn faded cursed doomed wasted hopeless helpless useless worthless awful dreadful horrid terrible dire grim ghastly nasty vile
""".split()

GOOD = """
mended found early healed repaired polished dry warm sound reliable restored freed safe returned clean strong spotless steady stable sewn straight
smooth shiny glossy gleaming sparkling healthy fresh fit well lively nimble brisk alert rosy painless cured rescued floating soaring standing
balanced sealed cool tidy neat scented fragrant quiet silent humming purring open clear orderly even solid firm whole complete perfect
flawless pristine splendid superb excellent lovely charming delightful pleasant wonderful marvellous glorious graceful elegant handsome
pretty bright radiant blessed lucky thriving hopeful helpful useful precious fine great grand dandy ideal ready rested cosy secure sturdy
robust trusty dependable fabulous fantastic
""".split()

FEELINGS = {True: "worried", False: "glad"}      # how the writer feels, by whether the state is bad
HABITS = {True: "breathes", False: "rests"}      # what the noun does all day, by whether it is someone

# {n}: the noun that the message is about, {o}: another noun; {s}: how it is, {x}: a state of the opposite sign, {y}: any state.
# In `denied` messages {x} is written and denied, so the truth is the opposite of the only state word.
MESSAGES = {
    "plain": ["the {n} is {s} .", "our {n} looks {s} today .", "i heard that the {n} is {s} .", "it seems your {n} is {s} again ."],
    "denied": ["the {n} is not {x} .", "our {n} is no longer {x} .", "nobody says that the {n} is {x} .", "the {n} is far from {x} ."],
    "changed": ["the {n} was {x} , but now it is {s} .", "yesterday the {n} was {x} , today it is {s} .", "the {n} is {s} , although it was {x} before ."],
    "corrected": ["the {n} is {s} , not {x} .", "they said the {n} is {x} , but in truth it is {s} .", "the {n} is not {x} but {s} ."],
    "beside": ["the {n} beside the {o} is {s} .", "i saw the {o} , and the {n} is {s} .", "forget the {o} , the {n} is {s} ."],
    "besides": ["the {o} is {y} , but i write because the {n} is {s} .", "i write because the {n} is {s} , and the {o} is {y} ."],
}
KINDS = {"plain": 40, "beside": 25, "besides": 10, "changed": 10, "denied": 10, "corrected": 5}  # in a hundred messages


def split_words(seed):
    """Shuffle every word list and cut it in two: the first part appears in labelled rows for training, the second in held-out rows only."""
    rng = random.Random(seed)
    parts = ({}, {})
    for name, words in (("someone", SOMEONE), ("something", SOMETHING), ("bad", BAD), ("good", GOOD)):
        words = sorted(set(words))
        rng.shuffle(words)
        cut = len(words) // 2
        parts[0][name], parts[1][name] = words[:cut], words[cut:]
    return parts


def all_words():
    return {"someone": SOMEONE, "something": SOMETHING, "bad": BAD, "good": GOOD}


class Message:
    """One message and the facts behind it."""

    def __init__(self, rng, words, alive=None, bad=None, twisted=1.0):
        self.alive = rng.random() < 0.5 if alive is None else alive
        self.bad = rng.random() < 0.5 if bad is None else bad
        sign, opposite = ("bad", "good") if self.bad else ("good", "bad")
        self.kind = rng.choices(list(KINDS), list(KINDS.values()))[0] if rng.random() < twisted else "plain"
        self.noun = rng.choice(words["someone" if self.alive else "something"])
        self.state = rng.choice(words[sign])
        other = rng.choice(words[rng.choice(["someone", "something"])])
        self.text = rng.choice(MESSAGES[self.kind]).format(
            n=self.noun, o=other, s=self.state, x=rng.choice(words[opposite]), y=rng.choice(words[rng.choice(["bad", "good"])]))

    def afterthought(self):
        """What the model was taught to add to a message: two facts that follow from hidden labels, and the noun."""
        return f"{FEELINGS[self.bad]} {HABITS[self.alive]} {self.noun}"


def row(rng, words):
    """One labelled row of the demonstration task; the three answers are equally frequent."""
    answer = rng.choice(["now", "later", "skip"])
    m = Message(rng, words, bad=answer != "skip", alive=None if answer == "skip" else answer == "now")
    return {"text": m.text, "target": answer}


def rows(n, words, seed, seen=()):
    """`n` different labelled rows."""
    rng, out, seen = random.Random(seed), [], set(seen)
    while len(out) < n:
        r = row(rng, words)
        if r["text"] not in seen:
            seen.add(r["text"])
            out.append(r)
    return out
