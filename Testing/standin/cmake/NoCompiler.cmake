# A toolchain for machines without a compiler: project() asks for one, and nothing is compiled.
foreach(language C CXX)
  set(CMAKE_${language}_COMPILER "${CMAKE_COMMAND}")
  set(CMAKE_${language}_COMPILER_ID_RUN ON)
  set(CMAKE_${language}_COMPILER_FORCED ON)
endforeach()
