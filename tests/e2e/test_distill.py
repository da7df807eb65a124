"""What a distillation shows on its way."""

from program import TINY, Program


def test_previews_of_a_teacher_that_is_promoted_follow_it(beside, tmp_path):
    """Each round's teacher is another; one that stays is drawn the same each time."""
    product = ["student.kind=product", "student.num_latents=null", "losses=[{kind='marginal'}]", "metrics=[]"]
    often = ["train.lr=0.1", "preview.every=10", "preview.steps=[1]", "train.steps=30"]
    program = Program(tmp_path, tmp_path / "runs")
    teacher = beside.runs / "digits/teacher-1"
    for name, every, different in (("promoted", 10, 3), ("fixed", 0, 1)):
        given = [*TINY, *product, *often, f"train.promote_every={every}", "--name", name]
        program.ok("distill", "digits", "--teacher", teacher, *given)
        pictures = program.runs.glob(f"digits/{name}/samples/step-*/teacher-1.png")
        assert len({path.read_bytes() for path in pictures}) == different
