"""What others published about CodeGeeX-13B, to stand beside our figures; marked as published wherever it is shown.

Sources: HumanEval-X and HumanEval, the table in CodeGeeX2's README (Rust: CodeGeeX2's README, too); translation, the
figure hx_translation.png of CodeGeeX's repository. Their settings: n = 200, T = 0.8, top-p 0.95, CodeGeeX's prompts and
post-processing; pass@1 of the first with n = 20 and T = 0.2. Does not cover: figures that we only know at second hand.
"""

KS = ("pass@1", "pass@10", "pass@100")
SOURCES = {
    "humaneval-x": "CodeGeeX2's README",
    "humaneval": "CodeGeeX2's README",
    "humaneval-x-translation": "CodeGeeX's repository, hx_translation.png",
}
GENERATION = {
    "python": (22.9, 39.6, 60.9),
    "cpp": (17.1,),
    "java": (20.0,),
    "javascript": (17.6,),
    "go": (14.4,),
    "rust": (4.3,),
}
TRANSLATION = {
    "Python to C++": ((26.54, 43.56, 56.48), (34.16, 46.86, 61.22)),
    "Python to Java": ((25.84, 41.52, 59.72), (41.98, 58.17, 72.78)),
    "Python to JavaScript": ((23.22, 47.33, 65.87), (34.81, 53.05, 66.08)),
    "Python to Go": ((9.56, 23.83, 33.56), (16.41, 30.76, 46.37)),
    "C++ to Python": ((27.18, 49.02, 67.69), (62.79, 80.39, 87.10)),
    "C++ to Java": ((22.56, 40.91, 64.08), (71.68, 81.62, 85.84)),
    "C++ to JavaScript": ((30.23, 55.68, 75.58), (50.83, 64.55, 74.57)),
    "C++ to Go": ((8.64, 18.79, 31.76), (16.71, 34.18, 52.98)),
    "Java to Python": ((43.41, 68.46, 84.03), (75.03, 87.71, 95.13)),
    "Java to C++": ((39.33, 58.48, 72.36), (49.67, 65.65, 75.40)),
    "Java to Go": ((17.17, 32.74, 47.71), (18.85, 32.92, 48.93)),
    "Java to JavaScript": ((44.19, 64.22, 82.89), (49.95, 62.82, 79.64)),
    "JavaScript to Python": ((31.15, 54.02, 72.36), (67.63, 81.88, 89.30)),
    "JavaScript to C++": ((30.32, 51.63, 69.37), (46.87, 60.82, 73.18)),
    "JavaScript to Java": ((24.68, 48.35, 69.03), (56.55, 70.27, 80.71)),
    "JavaScript to Go": ((11.91, 26.39, 39.81), (16.46, 32.99, 50.29)),
    "Go to Python": ((35.92, 56.02, 77.32), (57.98, 79.04, 93.57)),
    "Go to C++": ((29.83, 41.98, 58.15), (38.97, 53.05, 63.92)),
    "Go to Java": ((22.89, 41.04, 61.46), (54.22, 69.03, 79.40)),
    "Go to JavaScript": ((25.24, 46.50, 69.93), (43.07, 59.78, 74.04)),
}
"""Row -> CodeGeeX-13B, CodeGeeX-13B-FT."""


def published(benchmark: str, group: str) -> dict[str, dict[str, float]]:
    """Model -> figure -> per cent, for a row of a benchmark's table; empty where nothing was published."""
    models: dict[str, tuple[float, ...]] = {}
    if benchmark == "humaneval-x-translation":
        models = dict(zip(("CodeGeeX-13B", "CodeGeeX-13B-FT"), TRANSLATION.get(group, ()), strict=False))
    elif benchmark in SOURCES and group in GENERATION:
        models = {"CodeGeeX-13B": GENERATION[group]}
    return {model: dict(zip(KS, values, strict=False)) for model, values in models.items()}
