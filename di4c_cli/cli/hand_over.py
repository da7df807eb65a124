"""`di4c hand-over SOURCE`."""

from typing import Annotated, Any

import typer

from di4c_cli.cli import arguments, console, several

app = typer.Typer(add_completion=False)


@app.command(epilog="di4c hand-over digits_gaussian/seed-0 --steps 8,16,32")
def hand_over(
    source: arguments.Source,
    steps: Annotated[
        str | None,
        typer.Option(metavar="K,K,...", help="Numbers of steps to look at; default: the recipe's."),
    ] = None,
    num: Annotated[
        int | None, typer.Option(min=2, help="Held-out items; default: the recipe's.", show_default=False)
    ] = None,
    device: arguments.Device = "auto",
    nproc: arguments.Nproc = 1,
    quiet: arguments.Quiet = False,
    json: arguments.Json = False,
) -> None:
    """Give the teacher those calls in which the student is behind it, from here on.

    Student and teacher are weighed call by call by the NLL of held-out data. What is found becomes the
    default sampler of the student's checkpoint; `sampler.by_teacher=[]` samples from the student alone.
    """
    step_counts = arguments.number_list("--steps", steps, at_least=1)
    if several.wanted(nproc):
        several.run(nproc, device)
        return

    from di4c_cli import handing_over
    from di4c_cli.core import ranks
    from di4c_cli.sources import pick_device

    given = {"steps": step_counts, "num": num}
    with console.Progress(f"hand-over {source}", quiet=quiet):
        result = handing_over.hand_over(
            source, {key: value for key, value in given.items() if value}, ranks.join(pick_device(device))
        )
    if json:
        console.print_json(result)
        return
    print_calls(result)


def print_calls(result: dict[str, Any]) -> None:
    """The bound of each model in nats an item, and the calls that are the teacher's."""
    models = ("teacher", "student", "both")
    rows = [
        [row["steps"], *(f"{row['nll_bound'][name]:.2f}" for name in models), _spans(row)]
        for row in result["rows"]
    ]
    numbers = ["K", *models]
    console.print_table([*numbers, "the teacher's calls, from 0"], rows, numbers=numbers)
    print(f"NLL bound in nats, on {result['num']} held-out items; kept in {result['source']}")


def _spans(row: dict[str, Any]) -> str:
    """Numbers in a row as spans: 3, 7-9."""
    spans: list[list[int]] = []
    for call in row["calls"]:
        if spans and call == spans[-1][1] + 1:
            spans[-1][1] = call
        else:
            spans.append([call, call])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans) or "none"
