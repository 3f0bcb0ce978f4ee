"""The Markdown table of a JSON file that fitting.py wrote.

python benchmarks/table.py fitting.json
"""

import json
import sys


def main() -> None:
    with open(sys.argv[1]) as file:
        found = json.load(file)
    machine = found["machine"]
    print(f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}\n")
    print("| network | work | contender | ms a step and image | spread | × | steps | distance |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    rows = found["rows"]
    for row in rows:
        best = next(r for r in rows if (r["network"], r["work"]) == (row["network"], row["work"]))
        times = row["milliseconds"]
        print(
            f"| {row['network']} | {row['work']} | {row['contender']} | {row['median']:.3g} "
            f"| {min(times):.3g}-{max(times):.3g} | {row['median'] / best['median']:.2f} "
            f"| {row['steps']} | {row['distance']:.4f} |"
        )
    print("\n×: its time over that of the first contender with the same work. Steps: of one run.")


if __name__ == "__main__":
    main()
