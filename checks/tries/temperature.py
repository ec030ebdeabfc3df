"Chapter 06: calibration while one drags the temperature."
import numpy as np

from explorer import check_units, same

NOTEBOOK = "06_evaluation"
INPUT = "document.querySelector('#try-temperature input')"
SAID = "document.querySelector('#try-temperature .try-said').textContent.replaceAll('\\u00a0', ' ')"


def parts(folder):
    "For each temperature, what chapter 06 computes of all test images: loss, calibration error and its bins."
    from cifar_gradcam.mistakes.predictions import at_temperature, expected_calibration_error, reference_predictions, reliability_bins
    record, rows = reference_predictions(), []
    temperatures = [round(k / 50, 2) for k in range(5, 101)]  # from 0.1 to 2
    for temperature in temperatures:
        scaled = at_temperature(record, temperature)
        bins, sure = reliability_bins(scaled), scaled.confidence >= 0.99
        rows.append({"loss": round(float(scaled.loss.mean()), 4), "error": round(expected_calibration_error(scaled), 3),
                     "count": bins["count"].tolist(), "right": np.rint(np.nan_to_num(bins["accuracy"]) * bins["count"]).astype(int).tolist(),
                     "confidence": np.round(100 * np.nan_to_num(bins["confidence"]), 2).tolist(),
                     "sure": int(sure.sum()), "sure_right": int(scaled.correct[sure].sum())})
    return {"images": len(record), "temperatures": temperatures, "rows": rows}


def check(browser):
    "By keyboard and by pointer: what is said is what Python computes at that temperature."
    from cifar_gradcam.mistakes.predictions import at_temperature, expected_calibration_error, fit_temperature, reference_predictions, reliability_bins
    record = reference_predictions()

    def as_said():
        temperature = float(browser.run(INPUT + ".nextElementSibling.textContent"))
        scaled = at_temperature(record, temperature)
        sure = scaled.confidence >= 0.99
        surest = ("No answer is at least 99 % sure.", f"1 answer is at least 99 % sure, and it is {'right' if scaled.correct[sure].any() else 'wrong'}.",
                  f"{sure.sum():,} answers are at least 99 % sure, and {100 * scaled.correct[sure].sum() / max(sure.sum(), 1):.1f} % of them are right.")[min(sure.sum(), 2)]
        wanted = f"Mean loss {scaled.loss.mean():.3f}. Calibration error {expected_calibration_error(scaled):.1f} points. {surest}"
        same(browser.run(SAID), wanted, f"at temperature {temperature}")
        counts = reliability_bins(scaled)["count"]
        same(browser.run("document.querySelectorAll('#try-temperature rect[fill=none]').length"), int(((counts > 0) & (counts < 20)).sum()), f"bars of few answers at {temperature}")
        return temperature
    same(as_said(), 1, "it begins with the network as it is")
    browser.run(INPUT + ".focus()")
    for _ in range(3): browser.press("ArrowLeft")
    same(as_said(), 0.94, "three steps by keyboard")
    browser.click(INPUT, 0.25)
    if not 0.45 < as_said() < 0.7: raise AssertionError("a click at a quarter of the slider should give about 0.58")
    browser.click(INPUT, 0.75)
    said_on = browser.run("document.querySelector('#try-temperature button').textContent")
    browser.click("document.querySelector('#try-temperature button')")
    if abs((lowest := as_said()) - fit_temperature(record)) > 0.02: raise AssertionError(f"the button goes to {lowest}, fitted {fit_temperature(record)}")
    same(said_on, f"Set {lowest:.2f} (lowest loss)", "the words of the button")
    check_units(browser, "document.querySelector('#try-temperature')")
