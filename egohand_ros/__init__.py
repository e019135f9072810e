"""Forecast an egocentric camera wearer's hands and drive a dexterous robot hand with the forecast, over ROS 2."""

from pkgutil import extend_path

__version__ = "0.1.0"

# Lets `egohand_ros.msg`, which is generated and installed elsewhere, be found when this source tree comes first on the
# path.
__path__ = extend_path(__path__, __name__)
