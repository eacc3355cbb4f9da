"""The cluster: image, chart and client for a RayService under KubeRay."""
