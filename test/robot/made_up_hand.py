"""The URDF of a hand that nobody has seen: three fingers, chained mimic joints, no tip frames, odd names and axes."""

FINGER = """
  <link name="{n}_a"><collision><origin xyz="0 0.025 0" rpy="1.5707963 0 0"/>
    <geometry><cylinder radius="0.008" length="0.04"/></geometry></collision></link>
  <link name="{n}_b"><collision><origin xyz="0 0.018 0"/>
    <geometry><box size="0.014 0.034 0.014"/></geometry></collision></link>
  <link name="{n}_c"><collision><origin xyz="0 0.012 0"/>
    <geometry><sphere radius="0.008"/></geometry></collision></link>
  <joint name="{n}_1" type="revolute"><parent link="body"/><child link="{n}_a"/><origin xyz="{xyz}" rpy="{rpy}"/>
    <axis xyz="1 0 0"/><limit lower="{low}" upper="{high}" velocity="5" effort="1"/></joint>
  <joint name="{n}_3" type="revolute"><parent link="{n}_b"/><child link="{n}_c"/><origin xyz="0 0.035 0"/>
    <axis xyz="1 0 0"/><limit lower="{low3}" upper="{high3}" velocity="9" effort="1"/>
    <mimic joint="{n}_2" multiplier="0.7" offset="0.05"/></joint>
  <joint name="{n}_2" type="revolute"><parent link="{n}_a"/><child link="{n}_b"/><origin xyz="0 0.05 0"/>
    <axis xyz="1 0 0"/><limit lower="{low2}" upper="{high2}" velocity="9" effort="1"/>
    <mimic joint="{n}_1" multiplier="0.9"/></joint>
"""


def made_up_urdf() -> str:
    """A right hand: fingers along y, curling to -z; the thumb, called zeta, has a joint of its own to swing with."""
    finger = {"low": -1.6, "high": 0.1, "low2": -1.6, "high2": 0.2, "low3": -1.5, "high3": 0.3}
    fingers = [
        FINGER.format(n=n, xyz=f"{x} 0.09 0", rpy="0 0 0", **finger)
        for n, x in (("alpha", -0.03), ("beta", 0.0), ("gamma", 0.03))
    ]
    thumb = FINGER.format(n="zeta", xyz="0 0 0", rpy="0 0 0", **finger).replace(
        '<parent link="body"/><child link="zeta_a"/>', '<parent link="zeta_0"/><child link="zeta_a"/>'
    )
    swing = """
  <link name="zeta_0"/>
  <joint name="zeta_swing" type="revolute"><parent link="body"/><child link="zeta_0"/>
    <origin xyz="-0.035 0.03 -0.01" rpy="0 0 0.9"/><axis xyz="0 1 0"/>
    <limit lower="-0.2" upper="1.4" velocity="5" effort="1"/></joint>"""
    palm = """<link name="body"><collision><origin xyz="0 0.04 0"/>
    <geometry><box size="0.07 0.07 0.02"/></geometry></collision></link>"""
    arm = """<link name="floor"/>
  <joint name="arm" type="revolute"><parent link="floor"/><child link="body"/><axis xyz="0 0 1"/>
    <limit lower="-3" upper="3" velocity="1" effort="9"/></joint>"""
    body = "".join([*fingers, swing, thumb])
    return f'<?xml version="1.0"?>\n<robot name="unheard of">\n  {arm}\n  {palm}\n{body}</robot>\n'
