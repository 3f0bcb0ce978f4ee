"""The pages of a folder of runs: an overview, a page for each run, a page for its images."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ridefense.pages import Block, Document, Link, Section, Text, made_by
from ridefense.pages import write as write_document
from ridefense.report.galleries import gallery, pictured
from ridefense.report.tables import notes, table
from ridefense.results import AttackResult, DefenceResult, RecordedDefence, Results, warnings, words

PAGE = "report"
"""Name of the page of a folder and of a run, without a suffix."""

_EXAMPLES = 4  # images of a defence on the overview


def write(results: Results, folder: str | os.PathLike[str]) -> list[Path]:
    """Write the overview of a folder, and the pages of its runs, from their records.

    A folder that is itself a run has one page. The pages of runs and images are HTML alone.

    Args:
        folder: that `results` were read from.

    Returns:
        The overview's files.

    Raises:
        InputError: where images that rows speak of are missing or damaged.
        RideError: where it cannot be written to.
    """
    folder = Path(folder)
    for defence in results.defences:
        if not is_whole(results):
            up = Link(f"{_up(defence.name)}{PAGE}", "All defences")
            write_document(run_page(defence, (up,)), folder / defence.name, PAGE, ("html",))
        write_images(defence.reported, folder / defence.name)
    return write_document(overview(results), folder, PAGE)


def write_images(attacks: Iterable[AttackResult], folder: Path, up: Link | None = None) -> None:
    """Write a page of images for each attack of a run, below the run's folder.

    Args:
        up: the page that leads here, seen from the run's folder; by default the run's.

    Raises:
        InputError: where images that rows speak of are missing or damaged.
        RideError: where it cannot be written to.
    """
    for attack in attacks:
        if has_images(attack):
            page = images_page(attack, up or Link(PAGE, attack.defence.title))
            write_document(page, folder / "attacks", attack.label, ("html",))


def summary(results: Results) -> Document:
    """Every defence and attack in one table with its notes: the beginning of the overview."""
    attacks = results.attacks
    pages = {n: _run_link(attack.defence) for n, attack in enumerate(attacks)}
    images = {n: images_link(a, a.defence.name) for n, a in enumerate(attacks) if has_images(a)}
    about = {defence.images for defence in results.defences}
    return Document(
        title="Clean and robust accuracy" + (f": {about.pop()}" if len(about) == 1 else ""),
        blocks=(
            *_warnings(results),
            table(attacks, links={"Defence": pages, "Attack": images}),
            Text(tuple(notes(results)), "list"),
        ),
    )


def _warnings(results: Results) -> tuple[Block, ...]:
    """What makes all of it worthless, before everything else."""
    told = tuple(warnings(results.defences))
    return (Text(told, "answer"),) if told else ()


def overview(results: Results) -> Document:
    """The summary, then each defence with some of its images; of a single run, its page."""
    if is_whole(results):
        return run_page(results.defences[0])
    page = summary(results)
    titles = Counter(defence.title for defence in results.defences)
    return replace(
        page,
        blocks=(*page.blocks, *(_example(defence, titles) for defence in results.defences)),
        provenance=_made(results.defences),
    )


def run_page(
    defence: DefenceResult, links: tuple[Link, ...] = (), *, attack_pages: bool = True
) -> Document:
    """One run: what was attacked, each attack, some images.

    Args:
        links: to the pages that this one is part of.
        attack_pages: whether attacks have pages of their images, to which the table leads.
    """
    results = Results((defence,))
    attacks = results.attacks
    with_pages = [n for n, attack in enumerate(attacks) if attack_pages and has_images(attack)]
    images = {n: images_link(attacks[n]) for n in with_pages}
    blocks: list[Block] = [
        *_warnings(results),
        table(attacks, leave_out=("Defence",), links={"Attack": images}),
        Text(tuple(notes(results)), "list"),
        Section("What was run", (Text(tuple(settings(defence)), "list"),)),
        *_images(defence),
    ]
    return Document(
        f"{defence.title}: {defence.images}",
        tuple(blocks),
        subtitle=words.schedule(defence.purifier, defence.preset),
        links=links,
        provenance=_made([defence]),
    )


def images_page(attack: AttackResult, up: Link) -> Document:
    """The images of one attack.

    Args:
        up: the page that leads here, seen from the run's folder.
    """
    made = words.attack(attack.threat, attack.defence.is_undefended)
    return Document(
        f"{attack.defence.title}: {attack.full_title}",
        (gallery(attack, ""),),
        subtitle="" if attack.is_clean else made,
        links=(replace(up, page=f"../{up.page}"),),
        provenance=_made([attack.defence]),
    )


def settings(defence: DefenceResult) -> Iterable[str]:
    """What was declared, a sentence for each part."""
    declared, data = defence.run.settings, defence.dataset
    seeds = ", ".join(map(str, declared["seeds"]))
    yield f"Defence: {words.schedule(defence.purifier, defence.preset)}"
    yield f"Images: {data['images']} of {data['title']}, {data['split']} split"
    yield f"Classifier: {defence.classifier} (weights {declared['classifier']['weights']})"
    yield f"Draws: {declared['draws']} for each final image; seeds {seeds}"
    for attack in defence.every:
        yield f"{attack.full_title}: {words.attack(attack.threat, defence.is_undefended)}"


def is_whole(results: Results) -> bool:
    """Whether the folder is itself the one run."""
    return [defence.name for defence in results.defences] == ["."]


def has_images(attack: AttackResult) -> bool:
    """Whether images of the attack can be shown: published records may leave them out."""
    return attack.defence.run.has_images and bool(pictured(attack))


def images_link(attack: AttackResult, folder: str = "") -> Link:
    """To the page of an attack's images, seen from the page above the run's `folder`."""
    return Link(f"{folder}/attacks/{attack.label}".lstrip("/"), html_only=True)


def _run_link(defence: RecordedDefence, title: str = "") -> Link:
    return Link(f"{defence.name}/{PAGE}", title, html_only=True)


def _up(name: str) -> str:
    return "../" * len(Path(name).parts)


def _example(defence: DefenceResult, titles: Counter[str]) -> Section:
    """A defence on the overview, with its folder where another has its title too."""
    several = titles[defence.title] > 1
    title = f"{defence.title}, {defence.name}" if several else defence.title
    blocks = (Text(tuple(settings(defence)), "list"), *_images(defence))
    return Section(title, blocks, (_run_link(defence, "Results and images"),))


def _images(defence: DefenceResult) -> list[Block]:
    """A few images under the strongest attack."""
    attacks = [attack for attack in defence.reported if has_images(attack)]
    strongest = min(attacks, key=lambda attack: attack.accuracy.fraction, default=None)
    if strongest is None:
        return []
    return [gallery(strongest, f"Examples: {strongest.full_title}", _EXAMPLES)]


def _made(defences: Iterable[RecordedDefence]) -> dict[str, str]:
    return made_by(defence.run for defence in defences)
