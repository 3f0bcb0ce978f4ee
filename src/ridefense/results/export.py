"""Results as JSON, CSV and pandas: plain data, without anything that a reader has to parse."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ridefense.describe import Plain
from ridefense.evaluate import Row
from ridefense.extras import package
from ridefense.results.attack import AttackResult
from ridefense.results.defence import DefenceResult, WorstCase
from ridefense.results.statistics import Accuracy, Score

if TYPE_CHECKING:
    from pandas import DataFrame


def frame(records: Sequence[Plain]) -> "DataFrame":
    """A pandas frame of flat records.

    Raises:
        InputError: where pandas is not installed.
    """
    found: DataFrame = package("pandas", "pandas").DataFrame.from_records(list(records))
    return found


def csv_text(records: Sequence[Plain]) -> str:
    """Flat records as CSV with a header; empty without records."""
    text = io.StringIO()
    if records:
        writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return text.getvalue()


def json_text(defences: Iterable[DefenceResult]) -> str:
    """Defences with their settings, attacks and worst cases; deterministic, without times."""
    runs = [
        {
            "run": defence.name,
            "settings": defence.run.settings,
            "versions": defence.run.versions,
            "attacks": defence.run.attacks,
            "results": [
                _nested(attack)
                for attack in (defence.every or (defence.clean,))
                if attack.rows and attack.clean.rows
            ],
            "worst_cases": [
                _worst_case(case) for case in defence.worst_cases if len(case.attacks) > 1
            ],
        }
        for defence in defences
    ]
    return json.dumps({"runs": runs}, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def plain_row(row: Row) -> Plain:
    """A row of the records without its history, flat."""
    return {
        "image": row.image,
        "attack": row.attack,
        "seed": row.seed,
        "label": row.label,
        "survival": row.predictions.count(row.label) / len(row.predictions),
        "predictions": " ".join(map(str, row.predictions)),
        "bare": row.bare,
        "rounded": row.rounded,
        "linf": row.linf,
        "l2": row.l2,
        "purified_clean": row.purified_clean,
        "purified_final": row.purified_final,
        "final_clean": row.final_clean,
        "faults": " ".join(row.faults),
        "refits": row.refits,
        "engine": row.engine,
        "purify_seconds": row.purify_seconds,
        "attack_seconds": row.attack_seconds,
        "peak_megabytes": row.peak_megabytes,
    }


def plain_attack(attack: AttackResult) -> Plain:
    """An attack on a defence as one flat record."""
    defence, score = attack.defence, attack.score
    low, high = score.mean.interval
    return {
        "run": defence.name,
        "dataset": defence.dataset["name"],
        "split": defence.dataset["split"],
        "classifier": defence.classifier,
        "defence": defence.short_title,
        "preset": defence.preset,
        "label": attack.label,
        "attack": attack.title,
        "attacker_knows": attack.knows,
        "robustness_claim": not attack.is_clean and not attack.is_gray_box,
        "norm": attack.norm,
        "eps": attack.eps,
        "finished": attack.is_finished,
        "n": score.mean.n,
        "draws": score.draws,
        "clean": attack.clean.accuracy.fraction if attack.clean.rows else None,
        "accuracy": score.mean.fraction,
        "low": low,
        "high": high,
        "sd": score.sd,
        "majority": score.majority.fraction,
        "worst_draw": score.worst.fraction,
        "rounded": attack.rounded.fraction if attack.rounded else None,
        "bare": attack.bare.fraction,
        "faulty_rows": sum(attack.faults.values()),
        "unmoved": attack.unmoved,
        "purify_seconds": attack.purify_seconds,
        "attack_seconds": attack.attack_seconds,
        "paper": attack.stated.accuracy if attack.stated else None,
    }


def _nested(attack: AttackResult) -> Plain:
    defence = attack.defence
    paper = attack.stated and {
        "table": attack.stated.table,
        "accuracy": attack.stated.accuracy,
        "difference": attack.difference,
        "departs": list(attack.departures),
    }
    return {
        "defence": defence.short_title,
        "preset": defence.preset,
        "engines": list(attack.engines),
        "attack": attack.label,
        "threat": attack.short_title,
        "attacker_knows": attack.knows,
        "robustness_claim": not attack.is_clean and not attack.is_gray_box,
        "images": attack.accuracy.n,
        "images_declared": defence.declared,
        "images_unreadable": len(defence.unreadable),
        "clean": _score(attack.clean.score),
        "robust": None if attack.is_clean else _score(attack.score),
        "bare_classifier": _share(attack.bare),
        "rounded_to_8_bits": attack.rounded and _share(attack.rounded),
        "mean_absolute_distances": attack.distances,
        "faults": attack.faults,
        "unmoved": attack.unmoved,
        "refits": attack.refits,
        "paper": paper,
    }


def _worst_case(case: WorstCase) -> Plain:
    return {
        "attacks": [attack.label for attack in case.attacks],
        "unfinished": case.unfinished,
        "norm": case.norm,
        "eps": case.eps,
        "purifier_seed_known": case.seed_known,
        "robustness_claim": not case.is_gray_box,
        **_share(case.accuracy),
    }


def _share(accuracy: Accuracy) -> dict[str, Any]:
    return {
        "accuracy": accuracy.fraction,
        "n": accuracy.n,
        "interval_95": list(accuracy.interval),
    }


def _score(score: Score) -> Plain:
    """Of a score its mean, and over draws their spread, vote and worst."""
    return {
        **_share(score.mean),
        "draws": score.draws,
        "sd": score.sd,
        "majority": _share(score.majority),
        "worst": _share(score.worst),
    }
