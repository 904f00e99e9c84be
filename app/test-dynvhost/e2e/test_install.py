# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The driver as a package would ship it: found by EAL without -d, and telling its parameters."""

import dataclasses
import json
import os
from pathlib import Path

from harness import eal
from harness.errors import Failure, Skip, check
from harness.lab import Lab
from harness.process import run
from harness.settings import OUR_DRIVER
from harness.tap import case
from harness.testpmd import Testpmd, socket_of

INSTALL_SECONDS = 120.0
# The system's interpreter: pyelftools comes as its package.
PMDINFO = ('/usr/bin/python3', '/usr/bin/dpdk-pmdinfo.py')
PARAMETERS = ('iface=', 'queues=', 'sock-mode=', 'map-mode=', 'map-granule=', 'map-idle-ms=')


def _build_folder(lab: Lab) -> Path:
    build = lab.settings.build
    if build is None:
        raise Skip('DYNVHOST_BUILD does not say which build to install')
    if os.geteuid() != 0:
        raise Skip('only root can install')
    return build


def _installed_files(build: Path) -> list[Path]:
    """Where `meson install` will put what it installs."""
    plan = json.loads(run(['meson', 'introspect', '--installed', build], INSTALL_SECONDS))
    return [Path(target) for target in plan.values()]


def _install(lab: Lab, build: Path) -> list[Path]:
    """Install until the lab is taken down. Returns what was installed."""
    files = _installed_files(build)
    present = [str(path) for path in files if os.path.lexists(path)]
    if present:
        raise Skip(f'already installed: {present[0]}')
    lab.defer(run, ['ninja', '-C', build, 'uninstall'], INSTALL_SECONDS)
    run(['meson', 'install', '-C', build, '--no-rebuild'], INSTALL_SECONDS)
    return files


@case('install: testpmd finds the installed driver by itself, and nothing stays after uninstalling',
      ours_only=True)
def installed_driver_is_found(lab: Lab) -> None:
    build = _build_folder(lab)
    files = _install(lab, build)
    lab.settings = dataclasses.replace(lab.settings, plugin=None)
    pmd = Testpmd(lab, 'switch', [eal.vdev(lab.settings, 0, socket_of(lab, 0))])
    check(f'Driver name: {OUR_DRIVER}' in pmd.command('show port info 0'), 'not our driver')
    pmd.quit()
    lab.take_down()
    left = [str(path) for path in files if os.path.lexists(path)]
    check(not left, f'uninstalling left {left}')


def _build_example(lab: Lab) -> Path:
    """The example of the public functions, linked as its first comment says."""
    source = Path(__file__).resolve().parents[3] / 'examples' / 'exposure' / 'main.c'
    program = lab.path('exposure')
    flags = run(['pkg-config', '--cflags', '--libs', 'libdpdk', 'dynvhost'], 10.0).split()
    run(['cc', source, '-o', program, *flags], INSTALL_SECONDS)
    return program


@case('install: a program that links the public functions shares one driver with the plugin',
      ours_only=True)
def linked_program_has_one_driver(lab: Lab) -> None:
    build = _build_folder(lab)
    _install(lab, build)
    program = _build_example(lab)
    text = run([program, '--no-pci', '--no-huge', '-m', '64', '--file-prefix', 'exposure',
                f'--vdev={OUR_DRIVER}0,iface={socket_of(lab, 0)}'], 30.0)
    check(f'{OUR_DRIVER}0: 0 bytes of 0 loadable, 0 storable' in text, f'no exposure in {text}')
    # Two copies of the driver would both listen: the second one would say so.
    check(text.count('listening at') == 1, f'not one port in {text}')


@case('install: dpdk-pmdinfo.py prints the parameters of the driver', ours_only=True)
def pmdinfo_knows_parameters(lab: Lab) -> None:
    if lab.settings.plugin is None:
        raise Skip('DYNVHOST_PLUGIN does not say which file to look into')
    try:
        text = run([*PMDINFO, lab.settings.plugin], 30.0)
    except Failure as failure:
        if 'elftools' in str(failure):
            raise Skip('python3-pyelftools is not installed') from None
        raise
    told = [entry for entry in json.loads(text) if entry['name'] == OUR_DRIVER]
    check(len(told) == 1, f'{len(told)} drivers of our name in {text}')
    missing = [name for name in PARAMETERS if name not in told[0]['params']]
    check(not missing, f'no {missing} in {told[0]["params"]}')
