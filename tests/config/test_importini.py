"""An ini file of the superseded system: every keyword is carried over or reported, and the result runs."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from astropy.io import fits

from stillsun.cli import main
from stillsun.config.compose import load_settings
from stillsun.config.importini import Fate, import_ini
from stillsun.errors import ConfigError
from stillsun.io.observationfile import observation_text
from stillsun.sky import _archive, download
from stillsun.synth.observation import simulate
from stillsun.synth.observationfile import sequence_start, spool_directory
from stillsun.synth.settings import SimulationSettings

# The keywords of section 7 of the manual, as it spells them, with values of the distributed sample.
SHARED = {
    "DCSSLog": "/data/LOG_DCSS.20231206",
    "referenceChannel": "ROSA_GBAND",
    "solarAlign": "True",
    "verifyPointingUpdate": "True",
    "contextMovies": "True",
    "contextMovieDirectory": "/data/level1/context_movies",
}
ROSA = {
    "DataBase": "/data/level0/rosa",
    "workBase": "/data/level1/142152/gband",
    "burstNumber": "64",
    "obsDate": "20250903",
    "obsTime": "142152",
    "expTimems": "10",
    "burstFileForm": "{:s}_{:s}_gband_kisip.raw.batch.{:02d}.{:03d}",
    "speckledFileForm": "{:s}_{:s}_gband_kisip.speckle.batch.{:02d}.{:03d}",
    "dataFilePattern": "das1_rosa_2025-09-03_14.21.52_*.fit",
    "darkFilePattern": "das1_rosa_dark_*.fit",
    "flatFilePattern": "das1_rosa_flat_*.fit",
    "targetFilePattern": "das1_rosa_2025-09-03_15.02.52_*.fit",
    "linegridFilePattern": "das1_rosa_2025-09-03_14.59.52_*.fit",
    "noiseFile": "kisip.gband.noise",
    "wavelengthnm": "430.5",
    "kisipArcsecPerPixX": "0.0601",
    "kisipArcsecPerPixY": "0.0598",
    "kisipMethodSubfieldArcsec": "5",
    "correctPlateScale": "True",
    "createFiducialMaps": "True",
    "dstrFrom": "speckle",
    "dstrKernel": "0, 128, 64, 32, 12",
    "dstrMethod": "running",
    "dstrWindwo": "12",
    "flowWindow": "0",
    "repairTolerance": "0.4",
    "channelTranslation": "rot90, flplr",
    "progress": "True",
}
ZYLA = {
    **{k: v for k, v in ROSA.items() if not k.endswith("FilePattern")},
    "DataBase": "/data/level0/250903_ZYLA/DBJ_data_141613_observation/",
    "darkBase": "/data/level0/250903_ZYLA/DBJ_data_160211_dark",
    "flatBase": "/data/level0/250903_ZYLA/DBJ_data_155214_flat",
    "targetBase": "/data/level0/250903_ZYLA/DBJ_data_153014_target",
    "linegridBase": "/data/level0/250903_ZYLA/DBJ_data_153514_linegrid",
    "workBase": "/data/level1/142152/halpha",
    "dataFilePattern": "*spool.dat",
    "expTimems": "29.4",
    "wavelengthnm": "656.3",
    "kisipArcsecPerPixX": "0.084",
    "kisipArcsecPerPixY": "0.085",
    "dstrMethod": "reference",
    "dstrWindwo": "7",
    "channelTranslation": "90",
}
METHOD = {
    "kisipMethodMethod": "1",
    "kisipMethodPhaseRecLimit": "95",
    "kisipMethodUX": "10",
    "kisipMethodUV": "10",
    "kisipMethodMaxIter": "30",
    "kisipMethodSNThresh": "80",
    "kisipMethodWeightExp": "1.2",
    "kisipMethodPhaseRecApod": "15",
    "kisipMethodNoiseFilter": "1",
}
PROPS = {
    "kisipPropsHeaderOff": "0",
    "kisipPropsTelescopeDiamm": "760",
    "kisipPropsAoLockX": "-1",
    "kisipPropsAoLockY": "512",
    "kisipPropsAoUsed": "1",
}
ENV = {
    "kisipEnvBin": "/opt/kisip/bin",
    "kisipEnvLib": "/opt/kisip/lib",
    "kisipEnvMpiprocs": "24",
    "kisipEnvMpirun": "mpirun",
    "kisipEnvKisipExe": "entry",
}
LOG = {"loggers": {"keys": "root"}, "handler_RoHcHand": {"args": "('%(logfilename)s', 'a')"}}


def sections(**changes):
    """All sections; a keyword that is changed to None is left out."""
    night = {
        "SHARED": SHARED, "ROSA_GBAND": ROSA, "ZYLA": ZYLA, "KISIP_METHOD": METHOD, "KISIP_PROPS": PROPS,
        "KISIP_ENV": ENV, **LOG,
    }  # fmt: skip
    return {
        name: {k: v for k, v in {**values, **changes.get(name, {})}.items() if v is not None}
        for name, values in (night | {n: {} for n in changes if n not in night}).items()
    }


@pytest.fixture
def imported(tmp_path):
    """Import of the sections; the path of what was made beside it."""

    def run(tree=None, **changes):
        tree = sections(**changes) if tree is None else tree
        path = tmp_path / "night.ini"
        lines = [";; a comment"]
        for name, values in tree.items():
            lines += [f"[{name}]", *(f"{k} = {v}" for k, v in values.items()), ""]
        path.write_text("\n".join(lines))
        return import_ini(path)

    return run


def compose(found, tmp_path, *overrides):
    path = tmp_path / "night.yaml"
    path.write_text(observation_text(found.observation))
    return load_settings([f"observation_file={path}", *found.overrides, *overrides])


def fates(found, keyword, section=None):
    return {e.fate for e in found.entries if e.keyword == keyword and section in (None, e.section)}


def test_every_keyword_of_the_manual_is_carried_over_or_reported(imported):
    found = imported()
    told = {(e.section, e.keyword) for e in found.entries}
    given = {(name, key) for name, values in sections().items() if name not in LOG for key in values}
    assert given <= told
    assert {name for name in LOG} <= {e.section for e in found.entries}
    for fate in (Fate.unknown, Fate.faulty, Fate.contradiction):
        assert not [str(e) for e in found.entries if e.fate is fate]


def test_the_table_of_keywords_is_whole():
    page = (Path(__file__).parents[2] / "docs" / "moving_from_ini.md").read_text().lower()
    for values in (SHARED, ROSA, ZYLA, METHOD, PROPS, ENV):
        for keyword in values:
            assert f"`{keyword.lower()}`" in page, keyword


def test_values_arrive_where_they_belong(imported, tmp_path):
    settings = compose(imported(), tmp_path)
    observation = settings.run.observation
    assert observation.name == "20250903_142152"
    assert observation.telescope_log == SHARED["DCSSLog"]
    assert observation.work_dir == "/data/level1/142152"
    assert observation.raw_dir == "/data/level0"
    assert observation.reference_channel == "ROSA_GBAND"
    assert observation.telescope.diameter_mm == 760
    assert list(observation.channels) == ["ROSA_GBAND", "HARDCAM"]
    rosa, hardcam = observation.channels.values()
    assert (rosa.camera.reader.name, hardcam.camera.reader.name) == ("rosa", "hardcam")
    assert rosa.filter.startswith("G band")
    assert (rosa.data.directory, rosa.data.pattern) == ("rosa", ROSA["dataFilePattern"])
    assert (rosa.dark.directory, rosa.dark.pattern) == ("rosa", ROSA["darkFilePattern"])
    assert rosa.linegrid.pattern == ROSA["linegridFilePattern"]
    assert settings.stages["ROSA_GBAND"]["calibrate"].measure_plate_scale
    assert (rosa.exposure_ms, hardcam.exposure_ms) == (10.0, 29.4)
    assert rosa.plate_scale == [0.0601, 0.0598]
    assert hardcam.wavelength_nm == 656.3
    assert hardcam.start == "2025-09-03T14:21:52"
    assert hardcam.target.directory == "250903_ZYLA/DBJ_data_153014_target"
    assert hardcam.target.pattern == "*spool.dat"
    assert [t.name for t in rosa.orientation] == ["rot90", "fliplr"]
    assert [t.name for t in hardcam.orientation] == ["rot90"]
    stages, other = settings.stages["ROSA_GBAND"], settings.stages["HARDCAM"]
    assert stages["assemble"].frames_per_burst == 64
    speckle = stages["speckle"]
    assert speckle.engine.name == "masking"
    assert speckle.method.name == "triple_correlation"
    assert (speckle.subfield_arcsec, speckle.phase_limit, speckle.u_limit) == (5, 95, 10)
    assert (speckle.v_limit, speckle.max_iterations, speckle.snr_keep) == (10, 30, 80)
    assert (speckle.weight_exponent, speckle.apodisation, speckle.noise_filter) == (1.2, 15, True)
    assert (speckle.ao_used, speckle.ao_lock_x, speckle.ao_lock_y) == (True, -1, 512)
    assert speckle.processes == 24
    kisip = dataclasses.asdict(other["speckle"].kisip)
    assert kisip["bin"] == ENV["kisipEnvBin"]
    assert kisip["lib"] == ENV["kisipEnvLib"]
    assert (kisip["mpirun"], kisip["executable"]) == ("mpirun", "entry")
    assert kisip["header_offset"] == 0
    destretch = stages["destretch"]
    assert destretch.kernels == [0, 128, 64, 32, 12]
    assert (destretch.reference.name, destretch.window) == ("running", 12)
    assert destretch.repair_tolerance == 0.4
    assert not destretch.preserve_flows
    assert (other["destretch"].reference.name, other["destretch"].reference_frame) == ("fixed", 7)
    assert all(s["align"].engine.name == "hmi" and s["align"].verify for s in settings.stages.values())


def test_the_external_program_gets_the_settings(imported, tmp_path):
    settings = compose(imported(), tmp_path, "speckle=kisip")
    assert {s["speckle"].engine.name for s in settings.stages.values()} == {"kisip"}
    assert {s["speckle"].apodisation for s in settings.stages.values()} == {15.0}


def test_a_plate_scale_that_was_not_measured_is_not(imported, tmp_path):
    for value in ("False", None):
        settings = compose(imported(ROSA_GBAND={"correctPlateScale": value}), tmp_path)
        assert settings.run.observation.channels["ROSA_GBAND"].linegrid.pattern == ROSA["linegridFilePattern"]
        assert not settings.stages["ROSA_GBAND"]["calibrate"].measure_plate_scale
        assert settings.stages["HARDCAM"]["calibrate"].measure_plate_scale


@pytest.mark.parametrize("keyword", ["kisipEnvMpNproc", "kisipEnvMpiNproc", "KISIPENVMPIPROCS"])
def test_spellings(imported, tmp_path, keyword):
    found = imported(KISIP_ENV={"kisipEnvMpiprocs": None, keyword: "12"}, ROSA_GBAND={
        "dstrWindwo": None, "dstrWindow": "9", "DataBase": None, "database": ROSA["DataBase"],
    })  # fmt: skip
    settings = compose(found, tmp_path)
    assert settings.stages["ROSA_GBAND"]["speckle"].processes == 12
    assert settings.stages["ROSA_GBAND"]["destretch"].window == 9


def test_knox_thompson_goes_to_either_engine(imported, tmp_path):
    found = imported(KISIP_METHOD={"kisipMethodMethod": "0"})
    speckle = compose(found, tmp_path).stages["HARDCAM"]["speckle"]
    assert (speckle.engine.name, speckle.method.name) == ("masking", "knox_thompson")
    assert fates(found, "kisipMethodMethod") == {Fate.carried}


@pytest.mark.parametrize(
    ("section", "changes", "keyword", "fate"),
    [
        ("ZYLA", {"obsDate": "20250904"}, "obsDate", Fate.contradiction),
        ("ZYLA", {"obsTime": "152152"}, "obsTime", Fate.contradiction),
        ("KISIP_METHOD", {"kisipMethodUV": "12"}, "kisipMethodUV", Fate.contradiction),
        ("ROSA_GBAND", {"flowWindow": "120"}, "flowWindow", Fate.contradiction),
        ("SHARED", {"solarAlign": "False"}, "verifyPointingUpdate", Fate.contradiction),
        ("SHARED", {"solarAlign": "False"}, "solarAlign", Fate.remarked),
        ("SHARED", {"referenceChannel": "ROSA_CAK"}, "referenceChannel", Fate.contradiction),
        ("SHARED", {"contextMovies": "False"}, "contextMovies", Fate.remarked),
        ("ZYLA", {"kisipMethodSubfieldArcsec": "12"}, "kisipMethodSubfieldArcsec", Fate.contradiction),
        ("ROSA_GBAND", {"dstrKernel": "0,32,64"}, "dstrKernel", Fate.faulty),
        ("ROSA_GBAND", {"dstrKernel": "0;32"}, "dstrKernel", Fate.faulty),
        ("ROSA_GBAND", {"dstrMethod": "mean"}, "dstrMethod", Fate.faulty),
        ("ROSA_GBAND", {"repairTolerance": "2"}, "repairTolerance", Fate.faulty),
        ("ROSA_GBAND", {"burstNumber": "many"}, "burstNumber", Fate.faulty),
        ("ROSA_GBAND", {"channelTranslation": "rot90,roll"}, "channelTranslation", Fate.faulty),
        ("ROSA_GBAND", {"createFiducialMaps": "False"}, "targetFilePattern", Fate.dropped),
        ("ZYLA", {"correctPlateScale": "", "createFiducialMaps": ""}, "linegridBase", Fate.dropped),
        ("ROSA_GBAND", {"dstrFrom": "fits"}, "dstrFrom", Fate.carried),
        ("ROSA_GBAND", {"dstrFrom": "tape"}, "dstrFrom", Fate.faulty),
        ("ROSA_GBAND", {"correctTime": "True"}, "correctTime", Fate.remarked),
        ("ROSA_GBAND", {"progress": "False"}, "progress", Fate.remarked),
        ("ROSA_GBAND", {"burstNumbr": "32"}, "burstNumbr", Fate.unknown),
        ("ROSA_GBAND", {"workBase": "%(nowhere)s/x", "noiseFile": "%(nowhere)s"}, "noiseFile", Fate.faulty),
        ("KISIP_METHOD", {"kisipMethodMethod": "2"}, "kisipMethodMethod", Fate.faulty),
        ("KISIP_PROPS", {"kisipPropsTelescopeDiamm": "-1"}, "kisipPropsTelescopeDiamm", Fate.faulty),
        ("KISIP_WRONG", {"x": "1"}, "", Fate.unknown),
    ],
)  # fmt: skip
def test_contradictions_and_faults_are_reported_and_the_result_composes(
    imported, tmp_path, section, changes, keyword, fate
):
    before = {str(e) for e in imported().entries}
    found = imported(**{section: changes})
    assert fate in {e.fate for e in found.entries if e.keyword == keyword and str(e) not in before}
    compose(found, tmp_path)


def test_a_slide_that_is_left_out_names_the_keywords_that_would_ask_for_it(imported):
    found = imported(ROSA_GBAND={"createFiducialMaps": "False", "correctPlateScale": "False"})
    said = {e.keyword: e.text for e in found.entries if e.section == "ROSA_GBAND"}
    assert "correctPlateScale" in said["linegridFilePattern"]
    assert "createFiducialMaps" in said["targetFilePattern"]
    assert "correctPlateScale" not in said["targetFilePattern"]


def test_a_wavelength_that_is_not_the_channels_is_told_and_kept(imported, tmp_path):
    found = imported(ROSA_GBAND={"wavelengthnm": "589.6"})
    assert any("589.6" in e.text and e.fate is Fate.contradiction for e in found.entries)
    channel = compose(found, tmp_path).run.observation.channels["ROSA_GBAND"]
    assert channel.wavelength_nm == 589.6
    assert channel.filter == ""
    assert channel.camera.name == "ROSA"


def test_a_camera_without_paths_is_left_out_and_told(imported):
    found = imported(ROSA_4170={**ROSA, "DataBase": "", "workBase": ""})
    assert "ROSA_4170" not in found.observation["channels"]
    assert any(e.section == "ROSA_4170" and e.fate is Fate.dropped for e in found.entries)


@pytest.mark.parametrize(
    ("bases", "work"),
    [
        (("/d/142152/a", "/d/142152/b"), "/d/142152"),
        (("/d/a/142152", "/d/b/142152"), "/d/20250903_142152"),
        (("/d/142152", "/d/142152/"), "/d/142152"),
        (("/d/a", "/e/b"), "/d/a"),
    ],
)
def test_the_work_directory_belongs_to_one_sequence(imported, bases, work):
    found = imported(ROSA_GBAND={"workBase": bases[0]}, ZYLA={"workBase": bases[1]})
    assert found.observation["work_dir"] == work


def test_sections_are_known_by_the_headings_of_the_manual_too(imported):
    tree = {name.replace("KISIP_", "KISIP "): values for name, values in sections().items()}
    found = imported(tree)
    assert found.observation == imported().observation
    assert not [e for e in found.entries if e.fate is Fate.unknown]


def test_relative_paths_begin_where_the_import_is_done(imported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = imported(
        ROSA_GBAND={"DataBase": "raw/das1", "workBase": "level1", "dstrFrom": "fits"}, ZYLA={"workBase": ""}
    )
    channel = found.observation["channels"]["ROSA_GBAND"]
    assert found.observation["work_dir"] == str(tmp_path / "level1")
    assert found.observation["raw_dir"] == str(tmp_path / "raw" / "das1")
    assert channel["reconstructed"]["directory"] == str(tmp_path / "level1" / "postSpeckle")
    assert fates(found, "DataBase", "ROSA_GBAND") >= {Fate.remarked}


def test_a_keyword_in_two_spellings_is_told(imported):
    found = imported(ROSA_GBAND={"obsdate": "20250904"})
    said = [str(e) for e in found.entries if "stands twice" in e.text]
    assert len(said) == 1
    assert "obsDate = 20250903" in said[0]
    assert found.observation["name"].startswith("20250904")


def test_a_file_of_an_old_encoding_and_a_camera_without_keywords(tmp_path, imported):
    imported()
    path = tmp_path / "night.ini"
    path.write_bytes(path.read_bytes() + "# für später\n[ROSA_CAK]\n".encode("latin-1"))
    found = import_ini(path)
    assert any(e.section == "ROSA_CAK" and "left out" in e.text for e in found.entries)


@pytest.mark.parametrize("text", ["", "no section\n", "[SHARED]\nDCSSLog=x\n", "[A]\nx=1\nx=2\n"])
def test_what_is_no_configuration_is_refused(tmp_path, text):
    path = tmp_path / "bad.ini"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.ini"):
        import_ini(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        import_ini(tmp_path / "missing.ini")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    settings = SimulationSettings.preset(
        "tiny", bursts=2, frames_per_burst=8, dark_frames=4, flat_frames=8, fiducial_frames=2,
        fulldisk_pixels=128, ao_modes=0,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("simulated") / "night"
    simulate(out, settings)
    return settings, out


def simulated_ini(settings: SimulationSettings, out: Path) -> str:
    """The configuration that a user of the superseded system would have written."""
    lines = ["[SHARED]", f"DCSSLog={next(out.glob('level0/dcss*'))}", "referenceChannel=ROSA_GBAND"]
    for setup in settings.channels:
        common = {
            "workBase": out / "work" / setup.name,
            "burstNumber": settings.burst_length(setup),
            "obsDate": f"{settings.start:%Y%m%d}",
            "obsTime": f"{settings.start:%H%M%S}",
            "expTimems": setup.exposure_ms,
            "wavelengthnm": setup.wavelength_nm,
            "kisipArcsecPerPixX": setup.nominal_scale,
            "kisipArcsecPerPixY": setup.nominal_scale,
            "correctPlateScale": True,
            "createFiducialMaps": True,
            "channelTranslation": ",".join(setup.orientation),
        }
        raw = out / "level0"
        for role in ("data", "dark", "flat", "target", "linegrid"):
            if setup.is_rosa:
                kind = f"{role}_" if role in ("dark", "flat") else ""
                stamp = f"{sequence_start(settings, setup, role):%Y-%m-%d_%H.%M.%S}"
                common["dataBase"] = raw / str(setup.computer)
                common[f"{role}FilePattern"] = f"{setup.computer}_rosa_{kind}{stamp}_*.fit"
            else:
                common["dataFilePattern"] = "*spool.dat"
                common[f"{role}Base"] = raw / spool_directory(settings, role)
        lines += [f"[{setup.name if setup.is_rosa else 'ZYLA'}]", *(f"{k}={v}" for k, v in common.items())]
    return "\n".join(lines) + "\n"


def test_the_import_of_a_simulated_night_is_its_own_observation_file(simulated, tmp_path, capsys):
    settings, out = simulated
    ini, path = tmp_path / "night.ini", tmp_path / "night.yaml"
    ini.write_text(simulated_ini(settings, out))
    assert main(["import-ini", str(ini), "-o", str(path)]) == 0
    assert "carried over" in capsys.readouterr().out
    # The old system does not know of the simulated full-disk image.
    here = f"observation.channels.{settings.channels[0].name}.align.cache=null"
    wanted = load_settings([f"observation_file={out / 'observation.yaml'}", here])
    # The chip is larger than what is simulated, and the spool files' interval is that of the exposures.
    chips = [
        f"observation.channels.{setup.name}.camera.{key}={value}"
        for setup in settings.channels
        for key, value in (
            ("shape", list(setup.shape)),
            *([] if setup.is_rosa else [("file_shape", [setup.shape[0] + 2, setup.shape[1] + 12])]),
        )
    ]
    chips = [text.replace(" ", "") for text in chips]
    found = load_settings([f"observation_file={path}", *chips])
    assert (found.run.observation.name, found.run.observation.work_dir, found.run.observation.raw_dir) == (
        wanted.run.observation.name, wanted.run.observation.work_dir, wanted.run.observation.raw_dir
    )  # fmt: skip
    assert found.run.observation.telescope_log == wanted.run.observation.telescope_log
    for name, channel in wanted.run.observation.channels.items():
        other = found.run.observation.channels[name]
        for key in ("camera", "wavelength_nm", "wavelength_width_nm", "filter", "plate_scale", "exposure_ms",
                    "orientation", "data", "dark", "flat", "target", "linegrid"):  # fmt: skip
            assert getattr(other, key) == getattr(channel, key), f"{name}.{key}"
        # The simulated air stands still within an exposure, of which the old system knows nothing.
        wanted.stages[name]["speckle"].wind = found.stages[name]["speckle"].wind
        assert found.stages[name] == wanted.stages[name]


def test_the_import_of_a_windowed_night_reduces_with_nothing_added(simulated, tmp_path, monkeypatch):
    """The chips are larger than what was read out of them; only the files know."""
    settings, out = simulated
    assert all(max(setup.shape) < 200 for setup in settings.channels)
    ini, path = tmp_path / "night.ini", tmp_path / "night.yaml"
    ini.write_text(simulated_ini(settings, out).replace(f"{out / 'work'}", f"{tmp_path / 'work'}"))
    assert main(["import-ini", str(ini), "-o", str(path)]) == 0
    text = path.read_text()
    assert "shape" not in text

    def unreachable(*_):
        raise OSError("Name or service not known")

    monkeypatch.setattr(download, "_fetch", unreachable)
    monkeypatch.setattr(_archive.time, "sleep", lambda seconds: None)
    # But for movie and report, which take longest and need no more.
    stages = "stages=[calibrate,assemble,speckle,destretch,register,align,export]"
    assert main(["run", f"observation_file={path}", stages]) == 0
    for setup in settings.channels:
        files = sorted((tmp_path / "work" / setup.name / "splineDestretch").glob("*.fits"))
        assert len(files) == 2
        turned = setup.shape[::-1] if "rot90" in setup.orientation else setup.shape
        assert all(fits.getdata(file).shape == turned for file in files)


def test_an_observation_file_is_not_overwritten(imported, tmp_path, capsys):
    imported()
    path = tmp_path / "night.yaml"
    path.write_text("mine: 1\n")
    assert main(["import-ini", str(tmp_path / "night.ini"), "-o", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == "mine: 1\n"


def test_frames_that_were_reconstructed_already_are_taken_from_where_they_lie(imported, tmp_path):
    settings = compose(imported(ROSA_GBAND={"dstrFrom": "fits"}), tmp_path)
    assert settings.stages["ROSA_GBAND"]["speckle"].engine.name == "fits"
    assert settings.stages["HARDCAM"]["speckle"].engine.name != "fits"
    files = settings.channel("ROSA_GBAND").reconstructed
    assert files.directory.endswith("postSpeckle")
    assert files.pattern == "*.fits"


HEAD = "[ROSA_GBAND]\ndataBase=/d\nworkBase=/w\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[A]\n" + "".join(f"key{n}=1\n" for n in range(100_000)), "too large for an ini file"),
        (HEAD + "x" + " " * 100_000 + "y\n", "line 4 has more than 2000 characters"),
        (HEAD + "noiseFile=a\0b\n", "line 4 has NUL characters"),
        (HEAD + "\x01\x02\n", "not an ini file"),
    ],
)
def test_what_no_configuration_holds_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "bad.ini"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        import_ini(path)
    assert len(str(caught.value)) < 700


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.ini")
    with pytest.raises(ConfigError, match="cannot be read; expected a file"):
        import_ini(tmp_path / "pipe.ini")


def test_references_end(imported):
    grown = {"a0": "x" * 100, **{f"a{n}": f"%(a{n - 1})s" * 10 for n in range(1, 9)}}
    found = imported(
        ROSA_GBAND={**grown, "loop": "%(pool)s", "pool": "%(loop)s", "noiseFile": "50%% of %(obsDate)s"}
    )
    assert fates(found, "a8") == fates(found, "loop") == fates(found, "pool") == {Fate.faulty}
    assert max(len(e.value) for e in found.entries) < 5000
    (noise,) = [e for e in found.entries if e.keyword == "noiseFile" and e.section == "ROSA_GBAND"]
    assert noise.value == "50% of 20250903"


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "-inf"])
def test_numbers_are_finite(imported, tmp_path, value):
    found = imported(
        ROSA_GBAND={"expTimems": value, "wavelengthnm": value}, KISIP_ENV={"kisipEnvMpiprocs": value}
    )
    for keyword in ("expTimems", "wavelengthnm", "kisipEnvMpiprocs"):
        assert Fate.faulty in fates(found, keyword)
    compose(found, tmp_path)


def test_counts_that_no_machine_has_are_faulty(imported):
    found = imported(ROSA_GBAND={"burstNumber": "1e300", "channelTranslation": "9" * 1000})
    assert fates(found, "burstNumber", "ROSA_GBAND") == {Fate.faulty}
    assert fates(found, "channelTranslation", "ROSA_GBAND") == {Fate.faulty}
